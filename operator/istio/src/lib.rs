//! Istio control planes on member clusters: the release catalogue, rendering of the charts for each cluster, live upgrades by
//! revision, and the driver that does it.
//!
//! [`catalogue`], [`control_plane`] and [`upgrade`] are pure; [`run`] starts the driver.

pub mod catalogue;
pub mod control_plane;
pub mod upgrade;
