//! Domains that moved from one name to another between versions of the built-in map.

/// A domain that counts under a different ISP than in an earlier version of the map. Mail that was counted before stays
/// under the old name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The domain.
    pub domain: &'static str,
    /// The ISP's name until then.
    pub from: &'static str,
    /// The ISP's name now.
    pub to: &'static str,
    /// The [`IspMap::VERSION`](super::IspMap::VERSION) with which it moved.
    pub version: u32,
    /// When the mail itself moved, as `YYYY`, `YYYY-MM` or `YYYY-MM-DD`; `None` if no source gives it.
    pub since: Option<&'static str>,
    /// The source.
    pub source: &'static str,
}

const fn moved(
    domain: &'static str,
    from: &'static str,
    to: &'static str,
    since: Option<&'static str>,
    source: &'static str,
) -> Moved {
    Moved { domain, from, to, version: 2, since, source }
}

const fn from_att(domain: &'static str) -> Moved {
    moved(domain, "att", "yahoo", Some("2025"), "spamresource.com on AT&T's move to Yahoo, 2026-01")
}

const fn from_o2(domain: &'static str) -> Moved {
    moved(domain, "o2.pl", "wp", Some("2014"), "terms of use of o2.pl, 2016-05; validity.com on Wirtualna Polska")
}

/// Every domain that moved, by domain.
pub const MOVED: &[Moved] = &[
    from_att("ameritech.net"),
    from_att("att.net"),
    from_att("bellsouth.net"),
    moved("bol.com.br", "bol", "uol", None, "UOL runs BOL; field report of 2026-11"),
    moved("cox.net", "cox", "yahoo", Some("2024-10-01"), "suped.com on cox.net's MX records"),
    from_att("flash.net"),
    from_o2("go2.pl"),
    moved(
        "hotmail.ru",
        "microsoft",
        "other",
        None,
        "not among the domains with Microsoft's MX records: Spam Resource, 2021-09",
    ),
    from_att("nvbell.net"),
    from_o2("o2.pl"),
    from_att("pacbell.net"),
    from_att("prodigy.net"),
    from_o2("prokonto.pl"),
    from_att("sbcglobal.net"),
    from_att("snet.net"),
    from_att("swbell.net"),
    from_o2("tlen.pl"),
    moved("virgilio.it", "virgilio", "libero", Some("2013"), "emailmarketingblog.it on Italiaonline, 2013-03"),
    from_att("wans.net"),
    moved("yahoo.jp", "yahoo", "yahoo-japan", None, "spamresource.com on domains of Yahoo, 2021-09"),
];
