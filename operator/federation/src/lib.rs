//! The federation core: placement, rendering, planning, member workers, observation, status.
//!
//! The folders are named after the stages of the data's way; a module that decides is pure and
//! has no client in it, a module that talks decides nothing.

mod alarm;
pub mod cluster;
mod engine;
mod hash;
mod metrics;
pub mod observe;
pub mod placement;
pub mod plan;
pub mod render;
pub mod revision;
pub mod rollout;
mod status;
pub mod worker;

pub use alarm::alarm;
pub use engine::{Announcement, Announcer, run_engine};
pub use metrics::Metrics;
pub use status::{PROPAGATED, replace_status};
