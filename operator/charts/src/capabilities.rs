//! What a chart may ask about the cluster: `.Capabilities`.

use std::rc::Rc;

use crate::{
    functions::Param,
    template::value::{Entries, Object, Text, Value},
};

/// The Kubernetes version and API versions that a chart sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// For instance `v1.34.4` or `v1.33.5-gke.1080000`.
    pub kube_version: String,
    /// `v1`, `apps/v1`, `apps/v1/Deployment`…: what `.Capabilities.APIVersions.Has` finds.
    pub api_versions: Vec<String>,
}

/// The Helm version that charts see: the one whose behaviour this crate follows.
const HELM_VERSION: &str = "v3.22";

impl Capabilities {
    /// The capabilities of a cluster of this version. The version may lack its leading `v`.
    pub fn new(kube_version: &str) -> Self {
        let kube_version =
            if kube_version.starts_with('v') { kube_version.to_owned() } else { format!("v{kube_version}") };
        Self { kube_version, api_versions: Vec::new() }
    }

    /// The capabilities that `helm template --kube-version` assumes: only the numbers of the version count there.
    pub fn for_template(kube_version: &str) -> Self {
        let rest = kube_version.strip_prefix('v').unwrap_or(kube_version);
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        Self::new(rest[..end].trim_end_matches('.'))
    }

    pub(crate) fn value(&self) -> Value {
        Value::Object(Rc::new(CapabilitiesObject { of: self.clone() }))
    }

    fn number(&self, at: usize) -> &str {
        let rest = self.kube_version.strip_prefix('v').unwrap_or(&self.kube_version);
        let part = rest.split('.').nth(at).unwrap_or_default();
        part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default()
    }
}

struct CapabilitiesObject {
    of: Capabilities,
}

impl Object for CapabilitiesObject {
    fn type_name(&self) -> &'static str {
        "*chartutil.Capabilities"
    }
    fn kind_name(&self) -> &'static str {
        "ptr"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "KubeVersion" => Some(Value::Object(Rc::new(KubeVersion { of: self.of.clone() }))),
            "APIVersions" => Some(Value::Object(Rc::new(ApiVersions(self.of.api_versions.clone())))),
            "HelmVersion" => Some(Value::Object(Rc::new(HelmVersion))),
            _ => None,
        }
    }
    fn display(&self) -> String {
        format!("&{{{} {:?} {HELM_VERSION}}}", self.of.kube_version, self.of.api_versions)
    }
    fn data(&self) -> Value {
        Value::map(
            ["KubeVersion", "APIVersions", "HelmVersion"]
                .into_iter()
                .filter_map(|name| Some((Text::from(name), self.field(name)?)))
                .collect(),
        )
    }
}

struct KubeVersion {
    of: Capabilities,
}

impl Object for KubeVersion {
    fn type_name(&self) -> &'static str {
        "chartutil.KubeVersion"
    }
    fn kind_name(&self) -> &'static str {
        "struct"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Version" => Some(self.of.kube_version.as_str().into()),
            "Major" => Some(self.of.number(0).into()),
            "Minor" => Some(self.of.number(1).into()),
            _ => None,
        }
    }
    fn method(&self, name: &str) -> Option<&'static [Param]> {
        matches!(name, "GitVersion" | "String").then_some(&[])
    }
    fn call(&self, _name: &str, _args: &[Value]) -> Result<Value, String> {
        Ok(self.of.kube_version.as_str().into())
    }
    fn display(&self) -> String {
        self.of.kube_version.clone()
    }
    fn data(&self) -> Value {
        let entries: Entries = ["Version", "Major", "Minor"]
            .into_iter()
            .filter_map(|name| Some((Text::from(name), self.field(name)?)))
            .collect();
        Value::map(entries)
    }
}

struct HelmVersion;

impl Object for HelmVersion {
    fn type_name(&self) -> &'static str {
        "version.BuildInfo"
    }
    fn kind_name(&self) -> &'static str {
        "struct"
    }
    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Version" => Some(HELM_VERSION.into()),
            "GitCommit" | "GitTreeState" | "GoVersion" => Some("".into()),
            _ => None,
        }
    }
    fn display(&self) -> String {
        format!("{{{HELM_VERSION}   }}")
    }
    fn data(&self) -> Value {
        Value::map([("version".into(), HELM_VERSION.into())].into_iter().collect())
    }
}

struct ApiVersions(Vec<String>);

impl Object for ApiVersions {
    fn type_name(&self) -> &'static str {
        "chartutil.VersionSet"
    }
    fn kind_name(&self) -> &'static str {
        "slice"
    }
    fn field(&self, _name: &str) -> Option<Value> {
        None
    }
    fn method(&self, name: &str) -> Option<&'static [Param]> {
        (name == "Has").then_some(&[Param::Text])
    }
    fn call(&self, _name: &str, args: &[Value]) -> Result<Value, String> {
        let Some(Value::Str(wanted)) = args.first() else { return Ok(Value::Bool(false)) };
        Ok(Value::Bool(self.0.iter().any(|version| **version == **wanted)))
    }
    fn truth(&self) -> bool {
        !self.0.is_empty()
    }
    fn display(&self) -> String {
        format!("[{}]", self.0.join(" "))
    }
    fn data(&self) -> Value {
        Value::texts(self.0.iter().map(String::as_str))
    }
}
