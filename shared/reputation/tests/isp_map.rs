//! The built-in ISP map against external data: domains from practice, and the map of an earlier version.

use reputation::isp::{IspMap, MOVED};

/// A table of two columns under a heading: a domain and an ISP's name.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    table.lines().skip(1).map(|line| line.split_once('\t').unwrap_or((line, "")))
}

#[test]
fn every_domain_of_the_field_belongs_to_the_isp_that_decides_about_its_mail() {
    let map = IspMap::builtin();
    let wrong: Vec<String> = rows(include_str!("isp_domains.tsv"))
        .map(|(domain, isp)| (domain, isp, map.name(map.classify(domain))))
        .filter(|(_, isp, found)| isp != found)
        .map(|(domain, isp, found)| format!("{domain}: {found} instead of {isp}"))
        .collect();
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn moved_domains_are_sorted_dated_and_where_the_table_says() {
    let map = IspMap::builtin();
    assert!(MOVED.is_sorted_by(|a, b| a.domain < b.domain));
    for row in MOVED {
        assert_eq!(map.name(map.classify(row.domain)), row.to, "{}", row.domain);
        assert!(map.by_name(row.from).is_some() && row.from != row.to, "{}", row.domain);
        assert!((2..=IspMap::VERSION).contains(&row.version) && !row.source.is_empty(), "{}", row.domain);
        assert!(row.since.is_none_or(is_date), "{}", row.domain);
    }
}

fn is_date(text: &str) -> bool {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
    match text.split('-').collect::<Vec<_>>()[..] {
        [year] => digits(year, 4),
        [year, month] => digits(year, 4) && digits(month, 2),
        [year, month, day] => digits(year, 4) && digits(month, 2) && digits(day, 2),
        _ => false,
    }
}

/// Names are stored, so none is ever removed, and no domain changes its name unnoticed.
#[test]
fn version_1_keeps_its_names_and_its_domains_stay_or_are_in_the_table_of_moves() {
    let map = IspMap::builtin();
    for (domain, isp) in rows(include_str!("isp_version_1.tsv")) {
        assert!(map.by_name(isp).is_some(), "{isp}");
        if domain == "-" {
            continue; // A name without domains.
        }
        let asked = domain.replace('*', "below");
        let moved = MOVED.iter().find(|row| row.domain == domain);
        assert!(moved.is_none_or(|row| row.from == isp), "{domain}");
        assert_eq!(map.name(map.classify(&asked)), moved.map_or(isp, |row| row.to), "{domain}");
    }
}
