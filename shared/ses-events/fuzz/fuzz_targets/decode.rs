//! No document causes a panic, and both decoders give the same result for each.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use ses_events::{Decoder, reference};

thread_local! {
    // One decoder for all documents, so that the buffers keep the remains of the previous one.
    static DECODER: RefCell<Decoder> = RefCell::new(Decoder::new());
}

fuzz_target!(|document: &[u8]| {
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    DECODER.with_borrow_mut(|decoder| decoder.decode(document, |decoded| fast.push(format!("{decoded:?}"))));
    reference::decode(document, |decoded| slow.push(format!("{decoded:?}")));
    assert_eq!(fast, slow);
});
