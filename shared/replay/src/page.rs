//! A view as a page: one HTML file that needs nothing else, or its parts for whoever serves them.
//!
//! **Invariant:** what comes from the input is text to the page, never markup: it travels as JSON in which `<` is escaped, and the
//! script puts it into text nodes only.

use serde::Serialize as _;

use crate::view::View;

/// The skeleton of the page, with marks where style, scripts and data go.
const SKELETON: &str = include_str!("page/page.html");
/// The style sheet: ours, after that of the chart library.
pub const STYLE: &str = concat!(include_str!("page/uplot-1.6.32/uPlot.min.css"), "\n", include_str!("page/page.css"));
/// The chart library: uPlot, MIT.
pub const CHARTS: &str = include_str!("page/uplot-1.6.32/uPlot.iife.min.js");
/// What draws a view.
pub const SCRIPT: &str = include_str!("page/page.js");

/// A page with everything in it. It may not reach out: its content policy allows no connection.
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

/// A page whose parts are served beside it, under the names `page.css`, `charts.js` and `page.js`, and its view under `view.json`.
pub fn served() -> String {
    skeleton(
        "<link rel=\"stylesheet\" href=\"page.css\">",
        "<script src=\"charts.js\"></script>\n<script src=\"page.js\"></script>",
    )
}

fn skeleton(head: &str, foot: &str) -> String {
    // The marks are looked for once each: what is put in is not looked through again.
    let (before, rest) = SKELETON.split_once("<!-- head -->").unwrap_or((SKELETON, ""));
    let (between, after) = rest.split_once("<!-- foot -->").unwrap_or((rest, ""));
    format!("{before}{head}{between}{foot}{after}")
}

/// JSON that ends no script element.
fn embedded(view: &View) -> String {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    // Strings, numbers, lists and maps with names: there is nothing that JSON could not hold.
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
