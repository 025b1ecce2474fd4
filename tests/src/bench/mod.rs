//! The propagation benchmark: how long federated objects take to reach real member clusters, what that costs, and how far it is from the
//! floor, which is a bare client that sends the same requests to the same servers in the same run.
//!
//! Everything is seen from outside: by metadata watches in the members that belong to the benchmark, the members' own audit logs and
//! metrics, and `/proc` of the operator's process. Nothing asserts absolute times; a bound only ends what would hang.

pub mod floor;
mod idle;
pub mod propagation;
pub mod report;
mod scenarios;
mod sight;
mod stats;
mod target;
mod world;

pub use propagation::{Options, run};
pub use report::Report;
