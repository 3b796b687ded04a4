//! Seeded event streams with their exact truth.
