//! The map's ISPs that a name of SES's stands for.
//!
//! The event tag `ses:recipient-isp` is not documented. Names seen with data in metrics of the Virtual Deliverability
//! Manager, whose dimension ISP is the same notion: `Gmail`, `Yahoo`, `Hotmail`, `Icloud`, `Aol`, `Gmx`, `Comcast`, `Tencent`,
//! `NetEase` (PostHog/posthog#94781, measured 2026-09); `ExchangeOnline` without data; `UNKNOWN_ISP` in the example of the
//! `GetMessageInsights` API. Other names are matched by their letters. So this is evidence for people, and nothing more.

use reputation::isp::IspMap;

/// The ISPs of the map that a name of SES's may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// One of these; the first is meant where the built-in map does not know the domain.
    OneOf(Vec<&'static str>),
    /// The ISP of the map with the same spelling.
    Named(String),
    /// SES does not know the ISP.
    Unknown,
    /// A name that is not in the map.
    Strange,
}

impl Meaning {
    /// Whether it may mean this ISP; `None` = it says nothing about it.
    pub(crate) fn agrees(&self, isp: &str) -> Option<bool> {
        match self {
            Meaning::OneOf(isps) => Some(isps.contains(&isp)),
            Meaning::Named(name) => Some(name == isp),
            Meaning::Unknown | Meaning::Strange => None,
        }
    }

    /// The ISP that it means for a domain that the built-in map does not know.
    pub(crate) fn proposed(&self) -> Option<&'static str> {
        match self {
            Meaning::OneOf(isps) => isps.first().copied(),
            // Only names of built-in ISPs are `'static`; a hint would give the same result.
            Meaning::Named(_) | Meaning::Unknown | Meaning::Strange => None,
        }
    }
}

/// Reads a name of SES's.
pub(crate) fn meaning(map: &IspMap, name: &str) -> Meaning {
    let letters = letters(name);
    let isps: &[&'static str] = match letters.as_str() {
        "" | "other" | "others" | "unknown" | "unknownisp" => return Meaning::Unknown,
        // A consumer domain of Google's is in the map; other domains that Google receives are its customers'.
        "gmail" | "google" | "googleworkspace" | "gsuite" => &["google-workspace", "gmail"],
        "hotmail" | "live" | "microsoft" | "msn" | "outlook" | "outlookcom" => &["microsoft"],
        "exchangeonline" | "microsoft365" | "o365" | "office365" => &["microsoft-365"],
        "aol" | "verizon" | "yahoo" => &["yahoo"],
        "apple" | "icloud" => &["apple"],
        "qq" | "tencent" => &["tencent-exmail", "qq"],
        "163" | "netease" => &["netease-qiye", "netease"],
        "mailru" | "vk" => &["vk-workspace", "mail.ru"],
        "yandex" => &["yandex-360", "yandex"],
        "zoho" => &["zoho-workplace", "zoho"],
        "alibaba" | "aliyun" => &["alibaba-mail"],
        _ => {
            let ours = map.isps().map(|isp| map.name(isp)).find(|ours| self::letters(ours) == letters);
            return ours.map_or(Meaning::Strange, |ours| Meaning::Named(ours.to_owned()));
        }
    };
    Meaning::OneOf(isps.to_vec())
}

fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, isp: &str, agrees: Option<bool>) {
        assert_eq!(meaning(&IspMap::builtin(), name).agrees(isp), agrees, "{name} {isp}");
    }

    #[test]
    fn the_names_that_were_seen_mean_isps_of_ours() {
        check("Gmail", "gmail", Some(true));
        check("Gmail", "google-workspace", Some(true));
        check("Gmail", "microsoft-365", Some(false));
        check("Hotmail", "microsoft", Some(true));
        check("ExchangeOnline", "microsoft-365", Some(true));
        check("ExchangeOnline", "microsoft", Some(false));
        check("Icloud", "apple", Some(true));
        check("Aol", "yahoo", Some(true));
        check("NetEase", "netease", Some(true));
        check("Gmx", "gmx", Some(true));
        check("Web.de", "web.de", Some(true));
        check("Comcast", "cox", Some(false));
    }

    #[test]
    fn a_name_without_meaning_neither_agrees_nor_disagrees() {
        check("UNKNOWN_ISP", "gmail", None);
        check("Other", "other", None);
        check("Somebody Else", "gmail", None);
        check("", "gmail", None);
    }

    #[test]
    fn every_isp_that_a_name_may_mean_is_built_in() {
        let map = IspMap::builtin();
        for name in ["gmail", "hotmail", "exchangeonline", "yahoo", "icloud", "tencent", "netease", "mailru", "yandex"]
        {
            let Meaning::OneOf(isps) = meaning(&map, name) else { panic!("{name}") };
            assert!(isps.iter().all(|isp| map.by_name(isp).is_some()), "{name}: {isps:?}");
        }
    }
}
