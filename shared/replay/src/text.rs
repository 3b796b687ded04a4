//! What people see: reports, explanations and policies as text with styles.
//!
//! Every function returns text with ANSI styles in it; whoever writes it out strips them where they are not wanted.
//! Nothing is ever cut off: what does not fit is wrapped under its column.

mod explanation;
mod layout;
mod policy;
mod report;

pub use explanation::explanation;
pub use layout::Look;
pub use policy::policy;
pub use report::report;
