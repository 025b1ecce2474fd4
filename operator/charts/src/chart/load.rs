//! Charts from folders and archives.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::Path,
};

use serde_json::Value as Json;

use super::{Chart, ChartFile, Metadata, ignore::IgnoreRules};
use crate::yaml::{self, YamlError};

/// Why a chart could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// A file could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file or folder.
        path: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The bytes are no gzip-compressed tar archive.
    #[error("the chart archive can't be unpacked: {0}; it must be a .tgz made by `helm package`")]
    Archive(#[source] io::Error),
    /// Chart.yaml is not there.
    #[error("Chart.yaml is missing in {0:?}: is this a chart?")]
    NoChartYaml(String),
    /// A file of the chart is not valid YAML or has wrong types.
    #[error("cannot load {file}: {message}")]
    Invalid {
        /// The path inside the chart.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// A path in the archive leaves the chart.
    #[error("the archive names the file {0:?}, which is outside of the chart")]
    Escapes(String),
    /// The chart is larger than allowed.
    #[error("the chart is larger than {limit} bytes unpacked, or has a larger file than {file_limit} bytes")]
    TooLarge {
        /// The bound for all files.
        limit: u64,
        /// The bound for one file.
        file_limit: u64,
    },
    /// Charts in charts, without an end.
    #[error("subcharts nest deeper than {0} levels")]
    TooDeep(usize),
}

/// Bytes that a chart may have unpacked, and one file of it: Helm's own bounds.
const MAX_CHART: u64 = 100 << 20;
const MAX_FILE: u64 = 5 << 20;
const MAX_NESTING: usize = 16;
const MAX_FILES: usize = 50_000;

fn too_large() -> ChartError {
    ChartError::TooLarge { limit: MAX_CHART, file_limit: MAX_FILE }
}

impl Chart {
    /// Loads the chart in a folder, by the rules of its `.helmignore`. Symbolic links are followed, as Helm does.
    pub fn from_dir(path: impl AsRef<Path>) -> Result<Self, ChartError> {
        let root = path.as_ref();
        let rules = match std::fs::read_to_string(root.join(".helmignore")) {
            Ok(text) => IgnoreRules::parse(&text),
            Err(_) => IgnoreRules::parse(""),
        };
        let mut files = Vec::new();
        let mut total = 0;
        walk(root, "", &rules, &mut files, &mut total, 0)?;
        Self::from_files(files, 0)
    }

    /// Loads a packaged chart (`.tgz`) from its bytes. The archive's top folder may have any name.
    pub fn from_archive(bytes: &[u8]) -> Result<Self, ChartError> {
        Self::from_archive_at(bytes, 0)
    }

    fn from_archive_at(bytes: &[u8], depth: usize) -> Result<Self, ChartError> {
        let reader = flate2::read::MultiGzDecoder::new(bytes).take(MAX_CHART + (16 << 20));
        let mut archive = tar::Archive::new(reader);
        let mut files = Vec::new();
        let mut total = 0_u64;
        for entry in archive.entries().map_err(ChartError::Archive)? {
            let mut entry = entry.map_err(ChartError::Archive)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).replace('\\', "/");
            let name = name.trim_start_matches("./");
            let escapes = name.starts_with('/')
                || name.split('/').any(|part| part == "..")
                || name.chars().nth(1) == Some(':');
            if escapes {
                return Err(ChartError::Escapes(name.to_owned()));
            }
            let Some((_, inner)) = name.split_once('/') else {
                if name == "Chart.yaml" {
                    return Err(ChartError::Invalid {
                        file: name.to_owned(),
                        message: "chart yaml not in base directory".to_owned(),
                    });
                }
                continue;
            };
            let mut data = Vec::new();
            entry.by_ref().take(MAX_FILE + 1).read_to_end(&mut data).map_err(ChartError::Archive)?;
            total += data.len() as u64;
            if data.len() as u64 > MAX_FILE || total > MAX_CHART || files.len() >= MAX_FILES {
                return Err(too_large());
            }
            files.push(ChartFile { name: inner.to_owned(), data });
        }
        Self::from_files(files, depth)
    }

    /// Builds a chart from files by their path inside the chart; the order of the templates is that of the files.
    pub fn from_memory(files: Vec<ChartFile>) -> Result<Self, ChartError> {
        Self::from_files(files, 0)
    }

    fn from_files(files: Vec<ChartFile>, depth: usize) -> Result<Self, ChartError> {
        if depth > MAX_NESTING {
            return Err(ChartError::TooDeep(MAX_NESTING));
        }
        let mut metadata: Option<Metadata> = None;
        let mut values = Json::Object(serde_json::Map::new());
        let mut schema = None;
        let (mut templates, mut others) = (Vec::new(), Vec::new());
        let mut subcharts: BTreeMap<String, Vec<ChartFile>> = BTreeMap::new();
        for mut file in files {
            if let Some(rest) = file.data.strip_prefix(b"\xef\xbb\xbf") {
                file.data = rest.to_vec();
            }
            match file.name.as_str() {
                "Chart.yaml" => metadata = Some(parse_metadata(&file)?),
                "values.yaml" => match parse_yaml(&file)? {
                    Json::Null => {}
                    parsed @ Json::Object(_) => values = parsed,
                    _ => return Err(invalid(&file.name, "must be a map of values")),
                },
                "values.schema.json" => schema = Some(file.data),
                "Chart.lock" | "requirements.lock" => {}
                name if name.starts_with("templates/") => templates.push(file),
                name => {
                    let Some(inner) = name.strip_prefix("charts/") else {
                        others.push(file);
                        continue;
                    };
                    // A folder in charts/ is a chart, a .tgz too; names with `_` or `.` in front are neither.
                    let name = inner.split('/').next().unwrap_or(inner).to_owned();
                    if name.starts_with(['_', '.']) {
                        continue;
                    }
                    let inner = inner.strip_prefix(&name).map_or("", |rest| rest.trim_start_matches('/'));
                    let file = ChartFile { name: inner.to_owned(), data: file.data };
                    subcharts.entry(name).or_default().push(file);
                }
            }
        }
        let Some(metadata) = metadata else { return Err(ChartError::NoChartYaml("the chart".to_owned())) };
        if metadata.name.is_empty() {
            return Err(invalid("Chart.yaml", "chart.metadata.name is required"));
        }
        let mut dependencies = Vec::new();
        for (name, mut files) in subcharts {
            if files.len() == 1 && files[0].name.is_empty() {
                if Path::new(&name).extension().is_some_and(|extension| extension == "tgz") {
                    dependencies.push(Self::from_archive_at(&files.remove(0).data, depth + 1)?);
                }
                continue;
            }
            dependencies.push(Self::from_files(files, depth + 1)?);
        }
        Ok(Self { metadata, values, schema, templates, files: others, dependencies })
    }
}

fn invalid(file: &str, message: &str) -> ChartError {
    ChartError::Invalid { file: file.to_owned(), message: message.to_owned() }
}

fn parse_yaml(file: &ChartFile) -> Result<Json, ChartError> {
    let error = |message: String| ChartError::Invalid { file: file.name.clone(), message };
    let text = std::str::from_utf8(&file.data).map_err(|source| error(source.to_string()))?;
    yaml::parse(text).map_err(|source: YamlError| error(source.to_string()))
}

fn parse_metadata(file: &ChartFile) -> Result<Metadata, ChartError> {
    let mut json = parse_yaml(file)?;
    // Unquoted numbers are common in these two, and null is nothing.
    if let Json::Object(map) = &mut json {
        map.retain(|_, value| !value.is_null());
        for key in ["version", "appVersion", "kubeVersion", "name", "apiVersion", "description"] {
            if let Some(value) = map.get_mut(key)
                && (value.is_number() || value.is_boolean())
            {
                *value = Json::String(value.to_string());
            }
        }
    }
    serde_json::from_value(json).map_err(|source| invalid(&file.name, &source.to_string()))
}

fn walk(
    root: &Path,
    inner: &str,
    rules: &IgnoreRules,
    files: &mut Vec<ChartFile>,
    total: &mut u64,
    depth: usize,
) -> Result<(), ChartError> {
    if depth > 64 {
        return Err(ChartError::TooDeep(64));
    }
    let folder = root.join(inner);
    let read = |path: &Path, source: io::Error| ChartError::Read { path: path.display().to_string(), source };
    let mut entries: Vec<_> = std::fs::read_dir(&folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(|source| read(&folder, source))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = if inner.is_empty() { name } else { format!("{inner}/{name}") };
        let metadata = std::fs::metadata(&path).map_err(|source| read(&path, source))?;
        if metadata.is_dir() {
            if !rules.ignores(&name, true) {
                walk(root, &name, rules, files, total, depth + 1)?;
            }
        } else if metadata.is_file() && !rules.ignores(&name, false) {
            *total += metadata.len();
            if metadata.len() > MAX_FILE || *total > MAX_CHART || files.len() >= MAX_FILES {
                return Err(too_large());
            }
            let data = std::fs::read(&path).map_err(|source| read(&path, source))?;
            files.push(ChartFile { name, data });
        }
    }
    Ok(())
}
