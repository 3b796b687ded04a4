//! What somebody may have meant.

/// So many names are offered.
const MOST: usize = 3;

/// The known names that are nearest to what was written, nearest first.
pub fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut known: Vec<(usize, &str)> = known.map(|name| (distance(written, name), name)).collect();
    known.sort_unstable();
    // Where one is plainly meant, the others are noise.
    let best = known.first().map_or(0, |(distance, _)| *distance);
    let most = if best <= 2 { best + 1 } else { usize::MAX };
    known.into_iter().filter(|(distance, _)| *distance <= most).map(|(_, name)| name).take(MOST).collect()
}

/// Edit distance (Levenshtein 1966): insertions, deletions and substitutions of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let known = ["configuration-set:newsletter", "configuration-set:receipts", "identity:news.example.com"];
        let check = |written: &str, expected: &[&str]| assert_eq!(nearest(written, known.into_iter()), expected);
        check("configuration-set:newsleter", &known[..1]);
        check("configuration-set:Receipts", &known[1..2]);
        assert_eq!(nearest("identity:shop.example.com", known.into_iter())[0], known[2]);
        assert_eq!(nearest("x", std::iter::empty()), [""; 0]);
    }
}
