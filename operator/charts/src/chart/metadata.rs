//! Chart.yaml.

use std::{collections::BTreeMap, rc::Rc};

use serde::{Deserialize, Serialize};

use crate::template::value::{Map, MapKind, Object, Text, Value};

/// Chart.yaml, version 1 or 2.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// The chart's name.
    pub name: String,
    /// Its home page.
    pub home: String,
    /// Where its sources are.
    pub sources: Vec<String>,
    /// The chart's version, a semantic version.
    pub version: String,
    /// One line about it.
    pub description: String,
    /// Words to find it by.
    pub keywords: Vec<String>,
    /// Who maintains it.
    pub maintainers: Vec<Maintainer>,
    /// A URL or file of an icon.
    pub icon: String,
    /// `v1` or `v2`: the version of Chart.yaml itself.
    pub api_version: String,
    /// A value path that enables the chart as a subchart.
    pub condition: String,
    /// Tags that enable the chart as a subchart.
    pub tags: String,
    /// The version of what the chart installs.
    pub app_version: String,
    /// Whether the chart should no longer be used.
    pub deprecated: bool,
    /// Free annotations.
    pub annotations: BTreeMap<String, String>,
    /// The Kubernetes versions that the chart supports, as a version range.
    pub kube_version: String,
    /// The subcharts that it wants.
    pub dependencies: Vec<Dependency>,
    /// `application` (also when empty) or `library`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A maintainer in Chart.yaml.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Maintainer {
    /// Name of a person or an organisation.
    pub name: String,
    /// Mail address.
    pub email: String,
    /// Page.
    pub url: String,
}

/// A subchart that Chart.yaml asks for.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Dependency {
    /// The chart's name.
    pub name: String,
    /// A version range.
    pub version: String,
    /// Where it comes from.
    pub repository: String,
    /// Value paths, separated by commas; the first that is a bool decides whether the subchart is on.
    pub condition: String,
    /// Tags that switch it on or off together with others.
    pub tags: Vec<String>,
    /// Values of the subchart to lift into the parent.
    pub import_values: Vec<serde_json::Value>,
    /// Another name for it.
    pub alias: String,
}

/// `.Chart`.
pub(crate) struct ChartObject {
    pub(crate) metadata: Rc<Metadata>,
    pub(crate) is_root: bool,
}

impl Object for ChartObject {
    fn type_name(&self) -> &'static str {
        "struct { chart.Metadata; IsRoot bool }"
    }
    fn kind_name(&self) -> &'static str {
        "struct"
    }
    fn field(&self, name: &str) -> Option<Value> {
        let metadata = &self.metadata;
        let texts = |items: &[String]| Value::texts(items.iter().map(String::as_str));
        Some(match name {
            "Name" => metadata.name.as_str().into(),
            "Home" => metadata.home.as_str().into(),
            "Sources" => texts(&metadata.sources),
            "Version" => metadata.version.as_str().into(),
            "Description" => metadata.description.as_str().into(),
            "Keywords" => texts(&metadata.keywords),
            "Icon" => metadata.icon.as_str().into(),
            "APIVersion" => metadata.api_version.as_str().into(),
            "Condition" => metadata.condition.as_str().into(),
            "Tags" => metadata.tags.as_str().into(),
            "AppVersion" => metadata.app_version.as_str().into(),
            "Deprecated" => metadata.deprecated.into(),
            "Annotations" => Value::Map(Map::new(
                MapKind::Str,
                metadata
                    .annotations
                    .iter()
                    .map(|(key, value)| (Text::from(key.as_str()), value.as_str().into()))
                    .collect(),
            )),
            "KubeVersion" => metadata.kube_version.as_str().into(),
            "Type" => metadata.kind.as_str().into(),
            "IsRoot" => self.is_root.into(),
            "Maintainers" => plain(&metadata.maintainers),
            "Dependencies" => plain(&metadata.dependencies),
            _ => return None,
        })
    }
    fn display(&self) -> String {
        format!("{{{} {}}}", self.metadata.name, self.metadata.version)
    }
    fn data(&self) -> Value {
        let data = plain(&*self.metadata);
        if let Value::Map(map) = &data {
            for (key, value) in map.snapshot() {
                if value.is_empty() {
                    map.remove(&key);
                }
            }
            map.insert("IsRoot".into(), self.is_root.into());
        }
        data
    }
}

fn plain(data: &impl Serialize) -> Value {
    serde_json::to_value(data).map_or(Value::Nil, |json| Value::from_json(&json))
}
