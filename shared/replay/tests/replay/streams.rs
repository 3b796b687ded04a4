//! The sample streams, and how they are replayed.

use std::fs;
use std::path::PathBuf;

use replay::driver::{MAX_SUBJECTS, Options};
use reputation::policy::Policy;

use crate::program::root;

/// 2026-11-21: after all streams.
pub(crate) const LATER: i64 = 1_795_219_200_000;

/// All of them.
pub(crate) fn streams() -> Vec<PathBuf> {
    let folder = root().join("events/streams");
    let mut streams: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    streams.sort();
    streams
}

pub(crate) fn options(policy: Policy) -> Options {
    Options { policy, real_now: LATER, since: None, until: None, stop_at: None, workers: 2, max_subjects: MAX_SUBJECTS }
}
