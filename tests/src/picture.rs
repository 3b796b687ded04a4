//! What a program prints on a terminal, as a picture for the documents: SVG with text, light or dark as the reader's screen is.
//!
//! The pictures lie in `infra/pictures`. A test prints again what they show, and fails if they are stale.

use std::fmt::Write as _;
use std::fs;

use super::emulator::root;

/// Pixels of a character and of a line. Each piece of text is stretched to its columns, so any monospaced font fits.
const CHARACTER: f64 = 8.0;
const LINE: usize = 18;
/// Pixels around the text, and of the window's title.
const MARGIN: usize = 14;
const TITLE: usize = 30;
/// Seconds that each line of a moving picture is shown for, and the share of the time in which it moves.
const SECONDS: f64 = 0.12;
const MOVING: usize = 70;

const STYLE: &str = "\
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre;fill:#1f2328}\
.w{fill:#f6f8fa;stroke:#d0d7de}.o{fill:#d0d7de}.b{font-weight:bold}.d{fill:#656d76}.r{fill:#cf222e}.y{fill:#9a6700}.g{fill:#1a7f37}\
.c{fill:#0a7ea4}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.w{fill:#0d1117;stroke:#30363d}.o{fill:#30363d}.d{fill:#8d96a0}.r{fill:#ff7b72}\
.y{fill:#d29922}.g{fill:#3fb950}.c{fill:#39c5cf}}";

/// What a terminal shows.
#[derive(Clone, Copy, Debug)]
pub struct Screen<'a> {
    /// The title of the window.
    pub title: &'a str,
    /// Text with ANSI styles.
    pub text: &'a str,
    /// Its width.
    pub columns: usize,
    /// Its height. More lines move up, as on a terminal, and the picture begins anew after its end.
    pub rows: usize,
}

/// A piece of a line in one style: its classes, and its text.
type Piece = (Vec<&'static str>, String);

/// The lines of a text in pieces of one style.
///
/// # Panics
///
/// A style is not known.
fn lines(text: &str) -> Vec<Vec<Piece>> {
    let mut classes: Vec<&'static str> = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut pieces: Vec<Piece> = Vec::new();
        for (index, part) in line.split("\x1b[").enumerate() {
            let text = match index {
                0 => part,
                _ => {
                    let (codes, text) = part.split_once('m').unwrap();
                    for code in codes.split(';') {
                        match code {
                            "" | "0" => classes.clear(),
                            "1" => classes.push("b"),
                            "2" => classes.push("d"),
                            "31" => classes.push("r"),
                            "32" => classes.push("g"),
                            "33" => classes.push("y"),
                            "36" => classes.push("c"),
                            other => panic!("no picture knows the style {other}"),
                        }
                    }
                    text
                }
            };
            if !text.is_empty() {
                pieces.push((classes.clone(), text.to_owned()));
            }
        }
        lines.push(pieces);
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Screen<'_> {
    /// As SVG.
    ///
    /// # Panics
    ///
    /// A line is wider than the screen, or has a style that is not known.
    pub fn svg(&self) -> String {
        let lines = lines(self.text);
        let rows = self.rows.min(lines.len());
        let inner = self.columns as f64 * CHARACTER;
        let (width, height) = (inner as usize + 2 * MARGIN, rows * LINE + TITLE + 2 * MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" aria-label=\"{}\">\n<style>{STYLE}",
            escaped(self.title)
        );
        let hidden = lines.len() - rows;
        if hidden > 0 {
            let (pixels, seconds) = (hidden * LINE, hidden as f64 * SECONDS * 100.0 / MOVING as f64);
            let _ = write!(
                svg,
                ".s{{transform:translateY(-{pixels}px);animation:s {seconds:.1}s infinite}}\
                 @keyframes s{{0%{{transform:none;animation-timing-function:steps({hidden})}}\
                 {MOVING}%,100%{{transform:translateY(-{pixels}px)}}}}\
                 @media(prefers-reduced-motion:reduce){{.s{{animation:none}}}}"
            );
        }
        let _ = write!(
            svg,
            "</style>\n<rect class=\"w\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n",
            width - 1,
            height - 1
        );
        for dot in 0..3 {
            let _ =
                write!(svg, "<circle class=\"o\" cx=\"{}\" cy=\"{}\" r=\"5\"/>", MARGIN + 6 + dot * 18, TITLE / 2 + 3);
        }
        let _ = writeln!(
            svg,
            "\n<text class=\"d\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            width / 2,
            TITLE / 2 + 7,
            escaped(self.title)
        );
        // Its own coordinates end the text where the window ends.
        let _ = writeln!(
            svg,
            "<svg x=\"{MARGIN}\" y=\"{}\" width=\"{inner}\" height=\"{}\"><g class=\"s\">",
            TITLE + MARGIN / 2,
            rows * LINE
        );
        for (row, pieces) in lines.iter().enumerate() {
            let mut column = 0;
            let mut text = String::new();
            for (classes, piece) in pieces {
                let length = piece.chars().count();
                let blank = piece.len() - piece.trim_start().len();
                let shown = piece.trim();
                if !shown.is_empty() {
                    let class =
                        if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
                    let _ = write!(
                        text,
                        "<tspan{class} x=\"{}\" textLength=\"{}\">{}</tspan>",
                        (column + blank) as f64 * CHARACTER,
                        shown.chars().count() as f64 * CHARACTER,
                        escaped(shown)
                    );
                }
                column += length;
            }
            assert!(column <= self.columns, "wider than {} columns: {pieces:?}", self.columns);
            if !text.is_empty() {
                let _ = writeln!(svg, "<text y=\"{}\">{text}</text>", (row + 1) * LINE - 5);
            }
        }
        svg.push_str("</g></svg>\n</svg>\n");
        svg
    }

    /// Compares this with the picture of this name. With `UPDATE=1` the picture is drawn anew.
    ///
    /// # Panics
    ///
    /// They differ.
    pub fn is_shown_in(&self, picture: &str) {
        let path = root().join("infra/pictures").join(picture);
        let svg = self.svg();
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, svg).unwrap();
            return;
        }
        let known = fs::read_to_string(&path).unwrap_or_default();
        let differs = known.lines().zip(svg.lines()).find(|(known, drawn)| known != drawn);
        assert!(known == svg, "infra/pictures/{picture} is stale (UPDATE=1 draws it anew), first here: {differs:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_become_classes_and_what_does_not_fit_moves() {
        let text = "a \x1b[1m\x1b[31mb<&\x1b[0m c\n\n\x1b[2mend\x1b[0m\n";
        let red = vec!["b", "r"];
        let plain = Vec::new();
        assert_eq!(
            lines(text)[0],
            [(plain.clone(), "a ".to_owned()), (red, "b<&".to_owned()), (plain, " c".to_owned())]
        );
        let screen = Screen { title: "t", text, columns: 10, rows: 3 };
        let whole = screen.svg();
        assert!(whole.contains("<tspan class=\"b r\" x=\"16\" textLength=\"24\">b&lt;&amp;</tspan>"), "{whole}");
        assert!(
            whole.contains("<tspan x=\"48\" textLength=\"8\">c</tspan>") && !whole.contains("keyframes"),
            "{whole}"
        );
        let moving = Screen { rows: 2, ..screen }.svg();
        assert!(moving.contains("@keyframes s{0%{transform:none;animation-timing-function:steps(1)}"), "{moving}");
    }
}
