//! Charts: from a folder or an archive, from a repository or a registry.

mod cache;
mod fetch;
mod files;
mod ignore;
mod load;
mod metadata;
mod oci;
mod repository;

pub use cache::ChartCache;
pub use fetch::{ChartArchive, ChartSource, Credentials, FetchError, FetchOptions, fetch};
pub use load::ChartError;
pub use metadata::{Dependency, Maintainer, Metadata};

pub(crate) use files::SharedFiles;
pub(crate) use metadata::ChartObject;

use serde_json::Value as Json;

/// A file of a chart by its path inside the chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartFile {
    /// With `/` between folders, for instance `templates/deployment.yaml`.
    pub name: String,
    /// The bytes as packaged, without a byte order mark.
    pub data: Vec<u8>,
}

/// A loaded chart with its subcharts. Build it with [`Chart::from_dir`] or [`Chart::from_archive`].
#[derive(Clone, Debug)]
pub struct Chart {
    pub(crate) metadata: Metadata,
    pub(crate) values: Json,
    pub(crate) schema: Option<Vec<u8>>,
    pub(crate) templates: Vec<ChartFile>,
    pub(crate) files: Vec<ChartFile>,
    pub(crate) dependencies: Vec<Chart>,
}

impl Chart {
    /// What Chart.yaml says.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The chart's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// The defaults of values.yaml; an object.
    pub fn values(&self) -> &Json {
        &self.values
    }

    /// The text of values.schema.json, which is not enforced by this crate.
    pub fn schema(&self) -> Option<&[u8]> {
        self.schema.as_deref()
    }

    /// The files below `templates/`.
    pub fn templates(&self) -> &[ChartFile] {
        &self.templates
    }

    /// All other files, which templates see as `.Files`.
    pub fn files(&self) -> &[ChartFile] {
        &self.files
    }

    /// Subcharts.
    pub fn dependencies(&self) -> &[Chart] {
        &self.dependencies
    }

    /// The files below `crds/`, which Helm installs before everything else and never templates; subcharts' after their parent's.
    pub fn crds(&self) -> Vec<&ChartFile> {
        let own = self.files.iter().filter(|file| {
            file.name.starts_with("crds/")
                && matches!(file.name.rsplit('.').next(), Some("yaml" | "yml" | "json"))
        });
        own.chain(self.dependencies.iter().flat_map(Chart::crds)).collect()
    }
}
