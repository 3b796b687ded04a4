//! `[isps]` entries as TOML: to paste, or to add to an existing policy.

use std::collections::BTreeMap;

use reputation::address::normal_domain;
use toml_edit::{DocumentMut, Item, Table, TableLike, TomlError, value};

use crate::isps::Proposal;

/// A policy with more entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edited {
    /// The whole policy.
    pub(crate) toml: String,
    /// Entries that were added: domain and ISP.
    pub(crate) added: Vec<(String, String)>,
    /// Entries that the policy already had, not changed: domain and its ISP there.
    pub(crate) kept: Vec<(String, String)>,
}

/// Adds an entry for each proposal, unless the policy has one for the domain. Comments and order are kept.
pub(crate) fn edited(toml: &str, proposals: &[Proposal]) -> Result<Edited, TomlError> {
    let mut document: DocumentMut = toml.parse()?;
    let mut edited = Edited { toml: String::new(), added: Vec::new(), kept: Vec::new() };
    let isps = document.entry("isps").or_insert_with(|| Item::Table(Table::new()));
    // If it is something else, the policy is not valid; the caller has checked that.
    if let Some(isps) = isps.as_table_like_mut() {
        add(isps, proposals, &mut edited);
    }
    edited.toml = if edited.added.is_empty() { toml.to_owned() } else { document.to_string() };
    Ok(edited)
}

fn add(isps: &mut dyn TableLike, proposals: &[Proposal], edited: &mut Edited) {
    let known: BTreeMap<String, String> = isps
        .iter()
        .map(|(domain, isp)| {
            let domain = normal_domain(domain).map_or_else(|_| domain.to_owned(), |normal| normal.into_owned());
            (domain, isp.as_str().unwrap_or_default().to_owned())
        })
        .collect();
    for proposal in sorted(proposals) {
        let (domain, isp) = (proposal.domain.clone(), proposal.isp.to_owned());
        match known.get(&domain) {
            Some(stands) => edited.kept.push((domain, stands.clone())),
            None => {
                isps.insert(&domain, value(&isp));
                edited.added.push((domain, isp));
            }
        }
    }
}

/// By ISP, then by domain.
fn sorted(proposals: &[Proposal]) -> Vec<&Proposal> {
    let mut sorted: Vec<&Proposal> = proposals.iter().collect();
    sorted.sort_by(|a, b| (a.isp, &a.domain).cmp(&(b.isp, &b.domain)));
    sorted
}

/// The entries as a TOML table to paste into a policy; empty if there are none.
pub(crate) fn block(proposals: &[Proposal]) -> String {
    let mut table = Table::new();
    let mut before = "";
    for proposal in sorted(proposals) {
        table.insert(&proposal.domain, value(proposal.isp));
        if proposal.isp != before
            && let Some(mut key) = table.key_mut(&proposal.domain)
        {
            let blank = if before.is_empty() { "" } else { "\n" };
            key.leaf_decor_mut().set_prefix(format!("{blank}# {}\n", proposal.isp));
            before = proposal.isp;
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let mut document = DocumentMut::new();
    document.insert("isps", Item::Table(table));
    document.to_string()
}

#[cfg(test)]
mod tests {
    use reputation::Policy;

    use super::*;
    use crate::isps::Evidence;

    fn proposal(domain: &str, isp: &'static str) -> Proposal {
        Proposal {
            domain: domain.to_owned(),
            mails: 1,
            share: 1.0,
            isp,
            evidence: Evidence::Mx,
            mx_host: None,
            hints: None,
            ses: Vec::new(),
        }
    }

    fn proposals() -> Vec<Proposal> {
        vec![proposal("b.example", "mimecast"), proposal("a.example", "mimecast"), proposal("c.example", "cisco")]
    }

    #[track_caller]
    fn check(before: &str, after: &str) {
        let edited = edited(before, &proposals()).unwrap();
        assert_eq!(edited.toml, after);
        Policy::from_toml(after).unwrap();
    }

    #[test]
    fn entries_are_grouped_by_isp_to_be_pasted() {
        let block = block(&proposals());
        Policy::from_toml(&block).unwrap();
        insta::assert_snapshot!(block, @r#"
        [isps]
        # cisco
        "c.example" = "cisco"

        # mimecast
        "a.example" = "mimecast"
        "b.example" = "mimecast"
        "#);
        assert_eq!(super::block(&[]), "");
    }

    #[test]
    fn entries_are_added_wherever_the_policy_has_its_own_and_comments_stay() {
        let all = "\"c.example\" = \"cisco\"\n\"a.example\" = \"mimecast\"\n\"b.example\" = \"mimecast\"\n";
        check("", &format!("[isps]\n{all}"));
        check("# why\nmode = \"act\" # now\n", &format!("# why\nmode = \"act\" # now\n\n[isps]\n{all}"));
        check(
            "[isps] # ours\n# a partner\n\"x.example\" = \"ovh\"\n\n[gate]\nin_use = false\n",
            &format!("[isps] # ours\n# a partner\n\"x.example\" = \"ovh\"\n{all}\n[gate]\nin_use = false\n"),
        );
        check(
            "isps = { \"x.example\" = \"ovh\" }\n",
            "isps = { \"x.example\" = \"ovh\" , \"c.example\" = \"cisco\", \"a.example\" = \"mimecast\", \"b.example\" = \
             \"mimecast\" }\n",
        );
    }

    #[test]
    fn an_entry_that_is_there_stays_however_it_is_written() {
        let before = "[isps]\n\"A.example.\" = \"other\"\n\"b.example\" = \"mimecast\"\n\"c.example\" = \"ovh\"\n";
        let edited = edited(before, &proposals()).unwrap();
        assert_eq!((edited.toml.as_str(), edited.added.len()), (before, 0));
        let kept: Vec<(&str, &str)> = edited.kept.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(kept, [("c.example", "ovh"), ("a.example", "other"), ("b.example", "mimecast")]);
    }
}
