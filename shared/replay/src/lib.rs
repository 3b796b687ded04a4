//! What would the breaker have done?

pub mod generate;
pub mod input;
