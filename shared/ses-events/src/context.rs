//! What both decoders know about a text besides the text: what surrounds it, and where its results go.

use crate::decoded::Decoded;
use crate::payload::InflateBudget;
use crate::{MAX_DOCUMENT, Rejection, Timestamp};

/// Where the results of one document go.
pub(crate) struct Sink<'e> {
    each: &'e mut dyn FnMut(Decoded<'_>),
    budget: InflateBudget,
}

impl<'e> Sink<'e> {
    pub(crate) fn new(each: &'e mut dyn FnMut(Decoded<'_>)) -> Self {
        Self { each, budget: InflateBudget::default() }
    }

    pub(crate) fn emit(&mut self, decoded: Decoded<'_>) {
        (self.each)(decoded);
    }

    pub(crate) fn budget(&mut self) -> &mut InflateBudget {
        &mut self.budget
    }
}

/// What surrounds a text; empty for the document itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Carried {
    /// Envelopes around it.
    pub(crate) envelopes: usize,
    /// Lists around it.
    pub(crate) lists: usize,
    /// It must give exactly one result, because the caller identifies records by counting.
    pub(crate) alone: bool,
    /// The publishing time from the innermost envelope that has one.
    pub(crate) published_at: Option<Timestamp>,
}

impl Carried {
    /// In one more envelope.
    pub(crate) fn inside(self, published_at: Option<Timestamp>) -> Self {
        Self { envelopes: self.envelopes + 1, published_at: published_at.or(self.published_at), ..self }
    }

    /// As a record of SQS or SNS.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

/// The checks of both decoders before they read a document.
pub(crate) fn admit(document: &[u8]) -> Result<&str, Rejection> {
    if document.len() > MAX_DOCUMENT {
        return Err(Rejection::TooLarge { size: document.len(), limit: MAX_DOCUMENT });
    }
    let text = std::str::from_utf8(document).map_err(|error| Rejection::NotUtf8 { at: error.valid_up_to() })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
