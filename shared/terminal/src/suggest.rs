//! Suggestions for mistyped names.

use strsim::osa_distance;

/// The most names that are suggested.
const MAX_NAMES: usize = 3;

/// The known names closest to `written`, closest first.
pub fn suggest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut known: Vec<(usize, &str)> = known.map(|name| (osa_distance(written, name), name)).collect();
    known.sort_unstable();
    // With one clear match, the others are noise.
    let best = known.first().map_or(0, |(distance, _)| *distance);
    let most = if best <= 2 { best + 1 } else { usize::MAX };
    known.into_iter().filter(|(distance, _)| *distance <= most).map(|(_, name)| name).take(MAX_NAMES).collect()
}

/// The known name that was probably meant: the closest one, unless more than half of `written` would have to change.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / 2).max(1);
    let known = known.map(|name| (osa_distance(written, name), name)).filter(|(distance, _)| *distance <= most);
    known.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let known = ["configuration-set:newsletter", "configuration-set:receipts", "identity:news.example.com"];
        let check = |written: &str, expected: &[&str]| assert_eq!(suggest(written, known.into_iter()), expected);
        check("configuration-set:newsleter", &known[..1]);
        check("configuration-set:Receipts", &known[1..2]);
        assert_eq!(suggest("identity:shop.example.com", known.into_iter())[0], known[2]);
        // Two swapped letters count as one error.
        assert_eq!(suggest("gmial", ["gmail", "gci", "gmx", "emcali"].into_iter()), ["gmail"]);
        assert_eq!(suggest("x", std::iter::empty()), [""; 0]);
    }

    #[test]
    fn a_name_that_is_nothing_like_the_others_is_not_explained_by_them() {
        let known = ["growth", "start", "target", "open_minutes"];
        let check = |written: &str, expected: Option<&str>| assert_eq!(nearest(written, known.into_iter()), expected);
        check("growht", Some("growth"));
        check("grow", Some("growth"));
        check("open_mins", Some("open_minutes"));
        check("foo", None);
        check("x", None);
        check("", None);
    }
}
