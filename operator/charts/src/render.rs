//! Charts to manifests.

use std::{rc::Rc, sync::Arc};

use serde_json::Value as Json;

use crate::{
    capabilities::Capabilities,
    chart::{Chart, Metadata},
    functions::{Patterns, WARN_END, WARN_START},
    manifest::{Hook, RenderedManifest, sort_manifests},
    template::{
        exec::{Scope, Shared, execute, without_no_value},
        limits::{Budget, Limits},
        set::TemplateSet,
        value::{Entries, Map, MapKind, Value},
    },
    values::coalesce::coalesce_values,
    yaml::YamlError,
};

/// Why a chart did not render. Messages of templates read like Helm's.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A template can't be parsed.
    #[error("{0}")]
    Parse(String),
    /// A template stopped with an error; also what `fail` and `required` end in.
    #[error("{0}")]
    Execute(String),
    /// A template wrote something that is not YAML.
    #[error("YAML parse error on {file}: error converting YAML to JSON: {source}")]
    Yaml {
        /// The template.
        file: String,
        /// What the reader said.
        #[source]
        source: YamlError,
    },
    /// A template wrote YAML that is no Kubernetes object.
    #[error(
        "YAML parse error on {file}: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {got} into Go {field}"
    )]
    Head {
        /// The template.
        file: String,
        /// The JSON type that stands there.
        got: String,
        /// The field that it stands in.
        field: String,
    },
    /// The values are no map.
    #[error("the values of a release must be a map, not {0}")]
    NotAMap(&'static str),
    /// The values of a subchart are no map.
    #[error("the values for the subchart {name} must be a map: correct the key {name:?} in the values")]
    SubchartValues {
        /// The subchart.
        name: String,
    },
    /// Values nest deeper than any real ones.
    #[error("the values are nested too deeply")]
    ValuesTooDeep,
    /// The chart does not support the cluster's version.
    #[error("chart requires kubeVersion: {range} which is incompatible with Kubernetes {version}")]
    KubeVersion {
        /// What the chart supports.
        range: String,
        /// What the cluster has.
        version: String,
    },
    /// The thread that renders could not be started.
    #[error("the rendering thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The thread that renders stopped by itself: a defect of this crate.
    #[error("rendering failed inside; please report this with the chart and the values")]
    Internal,
}

/// Finds objects in a cluster for the template function `lookup`.
pub trait Lookup: Sync {
    /// The object of that name, or the list of all if the name is empty; `None` if there is none. The error ends the render.
    fn lookup(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Json>, String>;
}

/// What a chart is rendered for: `.Release`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseOptions {
    /// `.Release.Name`
    pub name: String,
    /// `.Release.Namespace`
    pub namespace: String,
    /// `.Release.Revision`, from 1.
    pub revision: u32,
    /// `.Release.IsUpgrade`
    pub is_upgrade: bool,
    /// `.Release.IsInstall`
    pub is_install: bool,
    /// `.Release.Service`; Helm says `Helm`.
    pub service: String,
}

impl ReleaseOptions {
    /// A first install, as `helm template` assumes.
    pub fn install(name: &str, namespace: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            revision: 1,
            is_upgrade: false,
            is_install: true,
            service: "Helm".to_owned(),
        }
    }
}

/// The result of a render.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Documents in install order.
    pub manifests: Vec<RenderedManifest>,
    /// Documents that are hooks, in the same order.
    pub hooks: Vec<Hook>,
    /// The text of NOTES.txt.
    pub notes: Option<String>,
}

impl Rendered {
    /// What `helm template` prints.
    pub fn to_helm_output(&self) -> String {
        let mut body = String::new();
        let push = |body: &mut String, manifest: &RenderedManifest| {
            body.push_str("---\n# Source: ");
            body.push_str(&manifest.source);
            body.push('\n');
            body.push_str(&manifest.text);
            body.push('\n');
        };
        for manifest in &self.manifests {
            push(&mut body, manifest);
        }
        let mut out = body.trim().to_owned();
        out.push('\n');
        for hook in &self.hooks {
            push(&mut out, &hook.manifest);
        }
        out
    }
}

/// A chart with its templates parsed: render it as often as needed, from any thread.
#[derive(Clone, Debug)]
pub struct CompiledChart {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    chart: Chart,
    templates: TemplateSet,
    /// The files to execute in order, with the index of their chart in `charts`.
    order: Vec<(String, usize)>,
    charts: Vec<ChartInfo>,
    patterns: Patterns,
    limits: Limits,
}

/// What templates of one chart of the tree see besides values.
#[derive(Debug)]
struct ChartInfo {
    metadata: Metadata,
    path: String,
    files: crate::chart::SharedFiles,
    parent: Option<usize>,
}

/// The stack of the thread that renders; reserved, not used, unless templates nest deeply.
const STACK: usize = 256 << 20;

impl CompiledChart {
    /// Parses all templates of a chart and its subcharts.
    pub fn new(chart: Chart) -> Result<Self, RenderError> {
        Self::with_limits(chart, Limits::default())
    }

    /// As [`CompiledChart::new`], with bounds of one's own.
    pub fn with_limits(chart: Chart, limits: Limits) -> Result<Self, RenderError> {
        let mut charts = Vec::new();
        let mut files: Vec<(String, &[u8], usize)> = Vec::new();
        collect(&chart, None, &mut charts, &mut files);
        // The deepest path first, then the last in the alphabet: a library is parsed before what overrides it.
        files.sort_by(|a, b| {
            let depth = |path: &str| path.bytes().filter(|&b| b == b'/').count();
            depth(&b.0).cmp(&depth(&a.0)).then_with(|| b.0.cmp(&a.0))
        });
        let templates = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || {
                    let mut templates = TemplateSet::default();
                    for (path, data, _) in &files {
                        templates
                            .add_source(path, &String::from_utf8_lossy(data))
                            .map_err(|error| RenderError::Parse(parse_error(&error)))?;
                    }
                    Ok(templates)
                })
                .map_err(RenderError::Thread)?
                .join()
                .map_err(|_| RenderError::Internal)?
        })?;
        let order = files.into_iter().map(|(path, _, at)| (path, at)).collect();
        let inner = Inner { templates, order, charts, patterns: Patterns::default(), limits, chart };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The chart.
    pub fn chart(&self) -> &Chart {
        &self.inner.chart
    }

    /// Renders the chart with the user's values, a map or null. Nothing of the values or the chart is changed.
    pub fn render(
        &self,
        release: &ReleaseOptions,
        values: &Json,
        capabilities: &Capabilities,
    ) -> Result<Rendered, RenderError> {
        self.render_with(release, values, capabilities, None)
    }

    /// As [`CompiledChart::render`], with a cluster for `lookup` to look in.
    pub fn render_with(
        &self,
        release: &ReleaseOptions,
        values: &Json,
        capabilities: &Capabilities,
        lookup: Option<&dyn Lookup>,
    ) -> Result<Rendered, RenderError> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, || self.inner.render(release, values, capabilities, lookup))
                .map_err(RenderError::Thread)?
                .join()
                .map_err(|_| RenderError::Internal)?
        })
    }
}

fn collect<'c>(
    chart: &'c Chart,
    parent: Option<usize>,
    charts: &mut Vec<ChartInfo>,
    files: &mut Vec<(String, &'c [u8], usize)>,
) {
    let at = charts.len();
    let path = match parent.and_then(|parent| charts.get(parent)) {
        Some(parent) => format!("{}/charts/{}", parent.path, chart.name()),
        None => chart.name().to_owned(),
    };
    let library = chart.metadata().kind.eq_ignore_ascii_case("library");
    for template in chart.templates() {
        if !library || base_name(&template.name).starts_with('_') {
            files.push((format!("{path}/{}", template.name), &template.data, at));
        }
    }
    charts.push(ChartInfo {
        metadata: chart.metadata().clone(),
        path,
        files: crate::chart::SharedFiles::new(chart.files()),
        parent,
    });
    for dependency in chart.dependencies() {
        collect(dependency, Some(at), charts, files);
    }
}

pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Helm shows only where and what, not the chain between.
fn parse_error(error: &str) -> String {
    let tokens: Vec<&str> = error.split(": ").collect();
    match tokens.as_slice() {
        [_, location, .., message] => format!("parse error at ({location}): {message}"),
        [_, message] => format!("parse error at ({message}): {message}"),
        _ => format!("parse error in ({error}): {error}"),
    }
}

/// Takes the message of `fail` or `required` out of the chain of templates that led to it.
fn execution_error(file: &str, error: &str) -> String {
    if !error.starts_with("template: ") {
        return error.to_owned();
    }
    let tokens: Vec<&str> = error.splitn(3, ": ").collect();
    let [_, location, rest] = tokens.as_slice() else {
        return format!("execution error in ({file}): {error}");
    };
    if let Some(from) = rest.find(WARN_START)
        && let Some(to) = rest.rfind(WARN_END)
        && let Some(message) = rest.get(from + WARN_START.len()..to)
    {
        return format!("execution error at ({location}): {message}");
    }
    error.to_owned()
}

impl Inner {
    fn render(
        &self,
        release: &ReleaseOptions,
        values: &Json,
        capabilities: &Capabilities,
        lookup: Option<&dyn Lookup>,
    ) -> Result<Rendered, RenderError> {
        let contexts = self.contexts(release, values, capabilities)?;
        let shared = Shared { budget: Budget::new(self.limits), patterns: &self.patterns, lookup };
        let scope = Scope { shared: &shared, set: &self.templates };
        let mut files = Vec::with_capacity(self.order.len());
        for (path, at) in &self.order {
            if base_name(path).starts_with('_') {
                continue;
            }
            let (Some(context), Some(chart)) = (contexts.get(*at), self.charts.get(*at)) else { continue };
            let template: Entries = [
                ("Name".into(), path.as_str().into()),
                ("BasePath".into(), format!("{}/templates", chart.path).into()),
            ]
            .into_iter()
            .collect();
            context.insert("Template".into(), Value::Map(Map::new(MapKind::Values, template)));
            let text = execute(scope, path, Value::Map(context.clone()))
                .map_err(|error| RenderError::Execute(execution_error(path, &error)))?;
            files.push((path.clone(), without_no_value(text)));
        }
        let own_notes = format!("{}/templates/NOTES.txt", self.chart.name());
        let mut notes = None;
        files.retain_mut(|(path, text)| {
            if path.ends_with("NOTES.txt") {
                if *path == own_notes {
                    notes = Some(std::mem::take(text));
                }
                return false;
            }
            true
        });
        let sorted = sort_manifests(&files)?;
        Ok(Rendered { manifests: sorted.manifests, hooks: sorted.hooks, notes })
    }

    /// The top value of each chart of the tree: `.Values`, `.Chart` and so on.
    fn contexts(
        &self,
        release: &ReleaseOptions,
        values: &Json,
        capabilities: &Capabilities,
    ) -> Result<Vec<Map>, RenderError> {
        let user = match values {
            Json::Null => Map::any(Entries::new()),
            Json::Object(_) => match Value::from_json(values) {
                Value::Map(user) => user,
                _ => Map::any(Entries::new()),
            },
            Json::Array(_) => return Err(RenderError::NotAMap("a list")),
            _ => return Err(RenderError::NotAMap("a single value")),
        };
        let values = coalesce_values(&self.chart, &user)?;
        let release: Entries = [
            ("Name", release.name.as_str().into()),
            ("Namespace", release.namespace.as_str().into()),
            ("Revision", Value::Int(release.revision.into())),
            ("IsUpgrade", release.is_upgrade.into()),
            ("IsInstall", release.is_install.into()),
            ("Service", release.service.as_str().into()),
        ]
        .into_iter()
        .map(|(key, value): (&str, Value)| (key.into(), value))
        .collect();
        let release = Value::map(release);
        let capabilities = capabilities.value();
        let mut contexts: Vec<Map> = Vec::with_capacity(self.charts.len());
        for info in &self.charts {
            let own = match info.parent.and_then(|parent| contexts.get(parent)) {
                // The top values are shared as they are: templates write into them.
                None => Value::Map(values.seen_as(MapKind::Values)),
                Some(parent) => match parent.get("Values") {
                    Some(Value::Map(values)) => match values.get(&info.metadata.name) {
                        Some(Value::Map(table)) => Value::Map(table.seen_as(MapKind::Values)),
                        _ => Value::Map(Map::new(MapKind::Values, Entries::new())),
                    },
                    _ => Value::Map(Map::new(MapKind::Values, Entries::new())),
                },
            };
            let subcharts = Map::any(Entries::new());
            let chart = crate::chart::ChartObject {
                metadata: Rc::new(info.metadata.clone()),
                is_root: info.parent.is_none(),
            };
            let context: Entries = [
                ("Chart", Value::Object(Rc::new(chart))),
                ("Files", info.files.value()),
                ("Release", release.clone()),
                ("Capabilities", capabilities.clone()),
                ("Values", own),
                ("Subcharts", Value::Map(subcharts)),
            ]
            .into_iter()
            .map(|(key, value)| (key.into(), value))
            .collect();
            let context = Map::new(MapKind::Values, context);
            if let Some(Value::Map(siblings)) =
                info.parent.and_then(|parent| contexts.get(parent)).and_then(|parent| parent.get("Subcharts"))
            {
                siblings.insert(info.metadata.name.as_str().into(), Value::Map(context.clone()));
            }
            contexts.push(context);
        }
        Ok(contexts)
    }
}
