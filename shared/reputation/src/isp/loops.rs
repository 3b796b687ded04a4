//! Known feedback loops, which return complaints, and the source of each.
//!
//! SES receives a complaint only through a loop between the mailbox provider and AWS. AWS publishes no list of the
//! loops that it is registered with, so this table holds the loops that exist for large senders and that report message
//! by message. All other ISPs are "no data" until a complaint of one of their users has been counted. Omitted on
//! purpose:
//!
//! - Apple: according to its postmaster page, iCloud Mail has no feedback loop.
//! - Gmail: its loop reports only totals to the sender, never single complaints.
//! - GMX and web.de send a few headers of a mail, and only to providers that they trust.
//! - T-Online, Proton, Tuta, HEY, and business mail and its filters: no loop is known.
//! - XS4ALL and Yandex: in older lists of Validity's members, and missing from newer ones.
//! - Domains that Synacor, Tucows (OpenSRS) and BlueTie host for others: members of Validity's loop, but no source
//!   lists their consumer domains.

/// One feedback loop: why an ISP is expected to return complaints, message by message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedbackLoop {
    /// The ISP's name in the built-in map.
    pub isp: &'static str,
    /// The operator of the loop, and its name.
    pub operator: &'static str,
    /// The source.
    pub source: &'static str,
    /// A reason for doubt, if there is one: fewer complaints than the volume of mail suggests, or none.
    pub doubt: Option<&'static str>,
}

const fn known(isp: &'static str, operator: &'static str, source: &'static str) -> FeedbackLoop {
    FeedbackLoop { isp, operator, source, doubt: None }
}

const fn doubtful(
    isp: &'static str,
    operator: &'static str,
    source: &'static str,
    doubt: &'static str,
) -> FeedbackLoop {
    FeedbackLoop { isp, operator, source, doubt: Some(doubt) }
}

const JMRP: &str = "Microsoft, Junk Mail Reporting Program";
const CFL: &str = "Yahoo, Complaint Feedback Loop";
const UNIVERSAL: &str = "Validity, Universal Feedback Loop";
const SIGNAL_SPAM: &str = "Signal Spam";

/// Both list the members of Validity's loop; a row with this source is in both.
const MEMBERS: &str = "spamresource.com and emailexpert.com on Validity's loop, 2023-09";
const SPAMRESOURCE: &str = "spamresource.com on Validity's loop, 2023-09";

/// The ISPs that are known to have a feedback loop, by name. [`IspMap`](super::IspMap) takes its default from here.
pub const FEEDBACK_LOOPS: &[FeedbackLoop] = &[
    // Rows of earlier versions of the map may still have the name; Yahoo has the mailboxes, as before.
    known("att", CFL, "spamresource.com on AT&T's move to Yahoo, 2026-01"),
    known("bigpond", UNIVERSAL, MEMBERS),
    doubtful("bluewin", UNIVERSAL, SPAMRESOURCE, "named by one of two lists of members"),
    known("bol", UNIVERSAL, MEMBERS),
    doubtful("comcast", UNIVERSAL, MEMBERS, "mailboxes move to Yahoo in 2025 and 2026"),
    known("cox", CFL, "suped.com on cox.net's MX records, 2024-10"),
    known("fastmail", UNIVERSAL, MEMBERS),
    known("gandi", UNIVERSAL, "knowledge.validity.com, article 360005560651"),
    known("laposte", UNIVERSAL, "knowledge.validity.com, article 360005560651"),
    known("libero", UNIVERSAL, MEMBERS),
    known("mail.ru", "VK, Postmaster", "Mail.ru on its FBL for sending domains, 2012"),
    known("microsoft", JMRP, "sendersupport.olc.protection.outlook.com, SNDS and JMRP"),
    doubtful(
        "orange",
        SIGNAL_SPAM,
        "postmaster.orange.fr and postmastery.com on Orange",
        "only members that Orange approved, only of users who agreed",
    ),
    known("rackspace", UNIVERSAL, MEMBERS),
    known("seznam", "Seznam.cz, Feedback Loop", "fbl.seznam.cz"),
    known("sfr", UNIVERSAL, "knowledge.validity.com, article 360005560651"),
    known("telenet", UNIVERSAL, MEMBERS),
    known("telenor", UNIVERSAL, "validity.com on Telenor's and XS4ALL's loops"),
    known("terra", UNIVERSAL, MEMBERS),
    known("tim", UNIVERSAL, MEMBERS),
    known("uol", UNIVERSAL, MEMBERS),
    known("virgilio", UNIVERSAL, MEMBERS),
    known("virgin-media", UNIVERSAL, MEMBERS),
    known("yahoo", CFL, "senders.yahooinc.com, Complaint Feedback Loop"),
    known("ziggo", UNIVERSAL, MEMBERS),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isp::{Isp, IspMap};

    #[test]
    fn loops_are_sorted_have_a_source_and_name_built_in_isps() {
        let map = IspMap::builtin();
        assert!(FEEDBACK_LOOPS.is_sorted_by(|a, b| a.isp < b.isp));
        for row in FEEDBACK_LOOPS {
            assert_ne!(map.by_name(row.isp).unwrap_or(Isp::OTHER), Isp::OTHER, "{}", row.isp);
            assert!(!row.operator.is_empty() && !row.source.is_empty() && row.doubt != Some(""), "{}", row.isp);
        }
    }

    #[test]
    fn the_built_in_map_expects_complaints_from_these_isps_only() {
        let map = IspMap::builtin();
        let returning: Vec<&str> =
            map.isps().filter(|isp| map.returns_complaints(*isp)).map(|isp| map.name(isp)).collect();
        let lines: Vec<String> = returning.chunks(10).map(|chunk| chunk.join(", ")).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        att, bigpond, bluewin, bol, comcast, cox, fastmail, laposte, libero, mail.ru
        microsoft, orange, seznam, sfr, telenet, telenor, terra, tim, uol, virgilio
        virgin-media, yahoo, ziggo, gandi, rackspace
        ");
    }
}
