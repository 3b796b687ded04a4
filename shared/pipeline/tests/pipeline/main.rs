//! The use cases through their ports in memory: what is counted, decided, sent and exported; and the promises of
//! `ARCHITECTURE.md`, as far as the use cases alone can keep or break them, with simulated crashes and races between the
//! use cases and their ports. One program, so that [`kit`] exists once.

mod blame;
mod budget_simulation;
mod business_domains;
mod classify;
mod digest;
mod enforce_simulation;
mod enforcer;
mod evaluate_simulation;
mod export;
mod fold_simulation;
mod incident_simulation;
mod kit;
mod notices;
mod quotas;
mod recount;
mod regressions;
mod rounds;
mod test_simulation;
