//! The memory that the messages of all sessions share.
//!
//! **Invariant:** the sum of all [`Reservation`]s is never more than the budget. One that is dropped gives back all
//! that it holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes the messages of all sessions may take together.
#[derive(Debug)]
pub(crate) struct Memory {
    free: AtomicUsize,
}

impl Memory {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(bytes) })
    }

    /// Bytes that nothing holds.
    pub(crate) fn free(&self) -> usize {
        self.free.load(Ordering::Relaxed)
    }

    /// A reservation of nothing yet.
    pub(crate) fn reserve_none(self: &Arc<Self>) -> Reservation {
        Reservation { memory: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes of the budget that one message holds.
#[derive(Debug)]
pub(crate) struct Reservation {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Reservation {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `bytes` from now on, if that many are free. Otherwise it holds what it held before.
    #[must_use]
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken =
            self.memory.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(more)).is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }

    /// Holds no more than `bytes` from now on.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.memory.free.fetch_add(less, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_and_all_comes_back() {
        let memory = Memory::new(100);
        let (mut one, mut other) = (memory.reserve_none(), memory.reserve_none());
        assert!(one.grow_to(60));
        assert!(!other.grow_to(41), "only 40 are free");
        assert_eq!((other.bytes(), memory.free()), (0, 40));
        assert!(other.grow_to(40));
        one.shrink_to(10);
        assert_eq!(memory.free(), 50);
        drop((one, other));
        assert_eq!(memory.free(), 100);
    }
}
