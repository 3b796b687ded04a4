//! The rules of ses-breaker.

pub mod address;
pub mod isp;
pub mod refusal;
