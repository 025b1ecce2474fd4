//! Istio control planes on member clusters: the release catalogue, rendering of the charts for each cluster, live upgrades by
//! revision, and the driver that does it.
//!
//! [`catalogue`], [`control_plane`] and [`upgrade`] are pure; [`run`] is the driver.

pub mod catalogue;
mod charts;
pub mod control_plane;
mod controller;
pub mod upgrade;

pub use controller::{IstioError, IstioOptions, run};
