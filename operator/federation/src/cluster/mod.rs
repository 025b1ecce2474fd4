//! Member clusters: what is known of them, how they are reached, and their health.

mod view;

pub use view::{ClusterView, parse_kubernetes_version};
