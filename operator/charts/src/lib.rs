//! Loads and renders Helm charts as helm template does.
mod capabilities;
mod chart;
mod functions;
mod manifest;
mod render;
mod template;
mod values;
pub mod yaml;

pub use capabilities::Capabilities;
pub use chart::{Chart, ChartError, ChartFile, Dependency, Maintainer, Metadata};
pub use manifest::{Hook, RenderedManifest};
pub use render::{CompiledChart, Lookup, ReleaseOptions, RenderError, Rendered};
pub use template::limits::Limits;
pub use values::overlay;
