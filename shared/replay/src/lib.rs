//! Replays SES events and shows what the breaker would have done.

pub mod backtest;
pub mod cli;
pub mod diagnosis;
pub mod domains;
pub mod driver;
pub mod evidence;
pub mod explain;
pub mod failure;
pub mod generate;
pub mod input;
pub mod order;
pub mod page;
pub mod plot;
pub mod policy_file;
pub mod quota;
pub mod recorded;
pub mod report;
pub mod schedule;
pub mod simulate;
pub mod summary;
pub mod text;
pub mod view;
