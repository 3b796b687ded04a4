//! Completions, manual pages, and the digest: their text is made elsewhere.

use pipeline::digest::Digest;
use terminal::manual::{Completions, Pages};
use terminal::{TermStyle, sanitize};

use super::Render;

impl Render for Completions {
    fn text(&self, _: TermStyle) -> String {
        self.script.clone()
    }
}

impl Render for Pages {
    fn text(&self, _: TermStyle) -> String {
        self.pages.iter().map(|path| sanitize(path) + "\n").collect()
    }
}

impl Render for Digest {
    fn text(&self, _: TermStyle) -> String {
        self.text().lines().map(|line| sanitize(line) + "\n").collect()
    }
}
