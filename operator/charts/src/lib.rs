#![doc = include_str!("../README.md")]

mod capabilities;
mod chart;
mod functions;
mod manifest;
mod render;
mod template;
mod values;
pub mod yaml;

pub use capabilities::Capabilities;
pub use chart::{
    Chart, ChartArchive, ChartCache, ChartError, ChartFile, ChartSource, Credentials, Dependency, FetchError,
    FetchOptions, Maintainer, Metadata, fetch,
};
pub use manifest::{Hook, RenderedManifest};
pub use render::{CompiledChart, Lookup, ReleaseOptions, RenderError, Rendered};
pub use template::limits::Limits;
pub use values::overlay;
