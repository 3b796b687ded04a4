//! The promises of `ARCHITECTURE.md`, as far as the use cases alone can keep or break them: each is a test that can
//! fail. The ports are those in memory, with simulated crashes and races between them and the use cases.

mod budget_simulation;
mod classify;
mod enforce_simulation;
mod enforcer;
mod evaluate_simulation;
mod fold_simulation;
mod incident_simulation;
mod quotas;
mod recount;
mod regressions;
mod rounds;
mod world;
