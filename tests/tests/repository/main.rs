//! The repository as a whole: what depends on what, documents, words, examples for applications, the template and what is built
//! around it, the dashboard, sample events and streams.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod applications;
mod boundaries;
mod documents;
mod events;
mod grafana;
mod infrastructure;
mod streams;
mod template;
mod words;
