//! What would the breaker have done?

pub mod cli;
pub mod driver;
pub mod explain;
pub mod generate;
pub mod input;
pub mod report;
pub mod text;
