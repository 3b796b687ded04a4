//! The stack on AWS in this process: the functions' handling of events and requests, through the real SDK, with anything
//! happening between two of their calls.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alerts;
mod as_replayed;
mod contract;
mod crashes;
mod decisions;
mod described;
mod domains;
mod export;
mod gate;
mod grants;
mod mail;
mod people;
mod rounds;
mod shards;
mod stored;
mod unreadable;
mod warmup;
