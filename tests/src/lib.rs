//! The test bed: real etcd, kube-apiserver, kube-controller-manager and istiod on loopback, without containers and without root.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use fedistio_tests::{Fault, TestBed};
//!
//! let bed = TestBed::builder().members(2).istio(["1.28.2"]).build().await?;
//! let member = bed.member("member1")?;
//! println!("{} runs {}", member.name(), member.version().await?);
//! let mark = member.audit_mark()?;
//! member.proxy()?.set(Fault::Refuse);
//! member.proxy()?.set(Fault::None);
//! assert!(member.audit_writes_since(mark, Some("system:serviceaccount:fedistio-system:fedistio"))?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Binaries and charts are made once and kept by version in the user's cache folder, see [`cache`].

pub mod bed;
pub mod bench;
pub mod binaries;
pub mod cache;
pub mod charts;
pub mod cluster;
mod external;
pub mod install;
pub mod operator;
pub mod process;
pub mod progress;
pub mod registry;
pub mod runner;

pub use bed::{BedBuilder, TestBed};
pub use binaries::Binaries;
pub use cluster::{AuditMark, AuditWrite, Cluster, Fault, FaultProxy, Route, WriteRequests};
pub use operator::{Operator, OperatorBuilder};
pub use progress::Progress;
pub use registry::Registry;
pub use runner::{NodeRunner, PodProcess};
