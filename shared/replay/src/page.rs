//! A view as a page: one self-contained HTML file, or its parts for a server.
//!
//! **Invariant:** values from the input are text to the page, never markup: they travel as JSON in which `<` is escaped, and
//! the script puts them into text nodes only.

use serde::Serialize as _;

use crate::view::View;

/// The skeleton of the page, with marks for style, scripts and data.
const SKELETON: &str = include_str!("page/page.html");
/// The style sheet: that of the chart library, then ours.
pub const STYLE: &str = concat!(include_str!("page/uplot-1.6.32/uPlot.min.css"), "\n", include_str!("page/page.css"));
/// The chart library: uPlot, MIT.
pub const CHARTS: &str = include_str!("page/uplot-1.6.32/uPlot.iife.min.js");
/// The script that draws a view.
pub const SCRIPT: &str = include_str!("page/page.js");

/// A self-contained page. Its content policy allows no connections.
pub fn whole(view: &View) -> String {
    let head = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n<style>\n{STYLE}</style>"
    );
    let foot = format!(
        "<script type=\"application/json\" id=\"view\">{}</script>\n<script>{CHARTS}</script>\n<script>{SCRIPT}</script>",
        embedded(view)
    );
    skeleton(&head, &foot)
}

/// A page whose parts are served separately, under the names `page.css`, `charts.js` and `page.js`, and its view under
/// `view.json`.
pub fn served() -> String {
    skeleton(
        "<link rel=\"stylesheet\" href=\"page.css\">",
        "<script src=\"charts.js\"></script>\n<script src=\"page.js\"></script>",
    )
}

fn skeleton(head: &str, foot: &str) -> String {
    // Each mark is searched once, so inserted text is not searched.
    let (before, rest) = SKELETON.split_once("<!-- head -->").unwrap_or((SKELETON, ""));
    let (between, after) = rest.split_once("<!-- foot -->").unwrap_or((rest, ""));
    format!("{before}{head}{between}{foot}{after}")
}

/// JSON that cannot end a script element.
fn embedded(view: &View) -> String {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    // Strings, numbers, lists and maps with string keys always serialise.
    let _ = view.serialize(&mut serializer);
    String::from_utf8(json).unwrap_or_default().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use reputation::breaker::StateName;

    use super::*;

    #[test]
    fn the_page_shows_a_state_by_the_same_word_as_everything_else() {
        for state in StateName::ALL {
            let pair = format!("{state}: \"{}\"", state.word(true));
            assert!(SCRIPT.contains(&pair), "page.js does not say {pair}");
        }
        let cut = StateName::Throttled;
        let without_gate = format!("\"{cut}\" && !view.gate ? \"{}\"", cut.word(false));
        assert!(SCRIPT.contains(&without_gate), "page.js does not say {without_gate}");
    }
}
