//! Work on large bodies: reading and hashing tens of megabytes takes long enough to hold up other requests.

/// From this size on, work is done beside the threads that serve connections. At this size it takes some milliseconds.
const LARGE: usize = 1 << 20;

/// Does work on a body of this length; `None` if it panicked beside the others, or the runtime ends.
pub(crate) async fn on<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if length < LARGE { Some(work()) } else { tokio::task::spawn_blocking(work).await.ok() }
}
