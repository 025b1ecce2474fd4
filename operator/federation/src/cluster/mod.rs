//! Member clusters: what is known of them, how they are reached, and their health.

mod access;
mod client;
mod fleet;
mod health;
mod monitor;
mod registry;
mod view;

pub use access::{AccessError, make_client, parse_kubeconfig, read_kubeconfig};
pub use client::connect;
pub use fleet::{Fleet, FleetEvent, FleetEvents};
pub use health::{FAILURE_THRESHOLD, Health};
pub use registry::run_registry;
pub use view::{ClusterView, parse_kubernetes_version};
