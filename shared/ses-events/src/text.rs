//! Text of a document.

use std::borrow::Cow;

/// Text that is borrowed from the document, or owned where JSON escapes had to be undone.
pub type Text<'a> = Cow<'a, str>;
