//! Decodes a document into events.

use std::fmt;

use crate::MAX_ENVELOPES;
use crate::carriers;
use crate::context::{Carried, Sink, admit};
use crate::decoded::Decoded;
use crate::fast::{self, Scratch, Sure};
use crate::payload::stamped;
use crate::scan::Marks;

/// Decodes documents, one after the other, in buffers that it keeps.
pub struct Decoder {
    /// One for each level of envelopes.
    scratches: [Scratch; MAX_ENVELOPES],
    /// For the text that is being read; not needed afterwards.
    marks: Marks,
}

impl fmt::Debug for Decoder {
    /// Does not show the buffers: they hold addresses from the last document.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder without buffers; they grow to the size of the longest document.
    #[must_use]
    pub fn new() -> Self {
        Self { scratches: Default::default(), marks: Marks::default() }
    }

    /// Decodes one document: a line of a stream, the content of a file, the body of a request, the payload of a Lambda
    /// invocation. White space around it and a byte order mark before it are ignored.
    ///
    /// Calls `each` exactly once for a document with one event.
    ///
    /// For a Lambda batch of SQS or SNS it calls `each` exactly once for each record, in order: the n-th call is about
    /// the n-th record. A record that holds a list is rejected as
    /// [`Rejection::Several`](crate::Rejection::Several).
    ///
    /// For all other lists it calls `each` at least once for each item, in order: a record of Kinesis may hold several
    /// documents, and each may be a list again. A bad item does not affect its neighbours. Never panics.
    pub fn decode(&mut self, document: &[u8], mut each: impl FnMut(Decoded<'_>)) {
        let mut sink = Sink::new(&mut each);
        match admit(document) {
            Ok(text) => decode_text(text, Carried::default(), &mut self.marks, &mut self.scratches, &mut sink),
            Err(rejection) => sink.emit(Decoded::Rejected(rejection)),
        }
    }
}

fn decode_text(text: &str, carried: Carried, marks: &mut Marks, scratches: &mut [Scratch], sink: &mut Sink<'_>) {
    let Some((scratch, deeper)) = scratches.split_first_mut() else {
        return carriers::text(text, carried, sink);
    };
    let sure = fast::read(text, carried, marks, scratch);
    let Scratch { text: buffer, batch } = &*scratch;
    let mut carry = |message: &fast::Message, carried: Carried| {
        // The messages are in the buffer, and are UTF-8 because the document is.
        let inner = buffer.get(message.place.clone()).and_then(|inner| std::str::from_utf8(inner).ok());
        decode_text(inner.unwrap_or_default(), carried.inside(message.published_at), marks, deeper, sink);
    };
    match sure {
        Some(Sure::Event(event)) => sink.emit(event),
        Some(Sure::Message(message)) => carry(&message, carried),
        Some(Sure::Batch) if carried.envelopes == 0 => batch.iter().for_each(|message| carry(message, carried.alone())),
        // Exports of logs are long, so their lines are worth the fast path.
        None if carried.envelopes == 0 => match stamped(text).filter(|(_, document)| !document.contains('\n')) {
            Some((published_at, document)) => {
                decode_text(document, carried.inside(Some(published_at)), marks, deeper, sink);
            }
            None => carriers::text(text, carried, sink),
        },
        Some(Sure::Batch) | None => carriers::text(text, carried, sink),
    }
}
