//! `fedistio get`: lists federated objects and the state of their copies.

use crate::{
    cli::{
        connection::{Cluster, ConnectError, HostFlags, RequestError},
        values,
    },
    commands::unjoin::has_copy,
    output::{
        self, Format, FormatFlag, OutputError,
        age::age,
        table::{Field, Tone, draw, or_none},
    },
};
use fedistio_crds::{
    FederatedIstio, FederatedTypeConfig, FederatedTypeConfigSpec, ResourceScope, ResourceType, federated_crd,
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, CustomResourceExt as _, ResourceExt as _,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Objects in one answer of the API server.
const PAGE: u32 = 500;
/// Clusters that a row names one by one; more are counted by state.
const NAMED_CLUSTERS: usize = 4;

/// Lists federated objects and the state of their copies in each cluster.
///
/// TYPE is the plural, kind or short name of a federated type or of its target (federatedvirtualservices, FederatedVirtualService, fvs,
/// virtualservices), or federatedistio. Without TYPE every type that has objects is listed. `-o wide` shows a row per
/// cluster with reason and message.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio get -A
  fedistio get fvs -n bookinfo
  fedistio get fvs/reviews -n bookinfo -o wide
  fedistio get virtualservices -A -o json")]
pub(crate) struct Args {
    /// Type, or type/name
    #[arg(value_name = "TYPE")]
    type_: Option<String>,
    /// Name of one object
    #[arg(requires = "type_", value_name = "NAME", value_parser = values::object_name)]
    name: Option<String>,
    /// Namespace of the objects [default: that of the context]
    #[arg(short, long, value_name = "NAMESPACE", value_parser = values::cluster_name)]
    namespace: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    host: HostFlags,
}

/// Why objects can't be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    /// The host can't be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The result can't be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// An object can't be encoded.
    #[error("can't encode an object")]
    Encode(#[from] serde_json::Error),
    /// No type has that name.
    #[error("{0:?} is no federated type; `kubectl get federatedtypeconfigs` lists them")]
    UnknownType(String),
    /// Several types have that name.
    #[error("{name:?} may mean {}; write one of these", candidates.join(" or "))]
    Ambiguous {
        /// What was typed.
        name: String,
        /// The federated types that it fits.
        candidates: Vec<String>,
    },
    /// There is no such object.
    #[error("{type_} {name} not found{place}; `fedistio get {type_} -A` lists what is there")]
    NotFound {
        /// The federated type.
        type_: String,
        /// The name.
        name: String,
        /// The namespace in words; empty for a cluster-wide type.
        place: String,
    },
    /// A name without a type, or two names.
    #[error("write either TYPE NAME or TYPE/NAME")]
    TwoNames,
}

/// A type that can be listed.
#[derive(Clone, Debug)]
struct Listed {
    resource: ResourceType,
    /// Lowercase names that mean this type surely.
    names: Vec<String>,
    /// Lowercase names of the target, which other types may share.
    target_names: Vec<String>,
}

impl Listed {
    fn new(config: &FederatedTypeConfigSpec) -> Self {
        let (federated, target) = (config.federated.clone(), &config.target);
        let mut names =
            vec![federated.plural.clone(), federated.kind.to_lowercase(), federated.qualified_name()];
        names.extend(federated_crd(config).spec.names.short_names.unwrap_or_default());
        let target_names = vec![target.plural.clone(), target.kind.to_lowercase(), target.qualified_name()];
        Self { resource: federated, names, target_names }
    }

    /// `FederatedIstio`, which is federated without a type config.
    fn istio() -> Self {
        let crd = FederatedIstio::crd().spec;
        let resource = ResourceType {
            group: crd.group,
            version: fedistio_crds::VERSION.to_owned(),
            kind: crd.names.kind,
            plural: crd.names.plural,
            scope: ResourceScope::Cluster,
        };
        let mut names =
            vec![resource.plural.clone(), resource.kind.to_lowercase(), resource.qualified_name()];
        names.extend(crd.names.short_names.unwrap_or_default());
        Self { resource, names, target_names: Vec::new() }
    }

    /// `kind.group`, as `kubectl -o name` writes types.
    fn qualified_kind(&self) -> String {
        format!("{}.{}", self.resource.kind.to_lowercase(), self.resource.group)
    }
}

/// The one type that `name` means: by its own names first, then by its target's.
fn chosen<'a>(types: &'a [Listed], name: &str) -> Result<&'a Listed, GetError> {
    let wanted = name.to_lowercase();
    let having = |names: fn(&Listed) -> &Vec<String>| -> Vec<&Listed> {
        types.iter().filter(|listed| names(listed).contains(&wanted)).collect()
    };
    let mut found = having(|listed| &listed.names);
    if found.is_empty() {
        found = having(|listed| &listed.target_names);
    }
    match found.as_slice() {
        [] => Err(GetError::UnknownType(name.to_owned())),
        [one] => Ok(one),
        several => Err(GetError::Ambiguous {
            name: name.to_owned(),
            candidates: several.iter().map(|listed| listed.resource.plural.clone()).collect(),
        }),
    }
}

async fn all_types(host: &Cluster) -> Result<Vec<Listed>, RequestError> {
    let api: Api<FederatedTypeConfig> = Api::all(host.client.clone());
    let list = host
        .call_own("FederatedTypeConfigs", "listing FederatedTypeConfigs", api.list(&ListParams::default()))
        .await?;
    let mut types: Vec<_> = list.items.iter().map(|config| Listed::new(&config.spec)).collect();
    types.sort_by(|one, other| one.resource.cmp(&other.resource));
    types.push(Listed::istio());
    Ok(types)
}

/// Every object of the type, page by page. A type without a CRD (a broken type config) has none.
async fn list(
    host: &Cluster,
    resource: &ResourceType,
    namespace: Option<&str>,
) -> Result<Vec<DynamicObject>, RequestError> {
    let api_resource = resource.api_resource();
    let api: Api<DynamicObject> = match namespace.filter(|_| resource.namespaced()) {
        Some(namespace) => Api::namespaced_with(host.client.clone(), namespace, &api_resource),
        None => Api::all_with(host.client.clone(), &api_resource),
    };
    let mut params = ListParams::default().limit(PAGE);
    let mut objects = Vec::new();
    loop {
        let page = match host
            .call_own(&resource.plural, &format!("listing {}", resource.plural), api.list(&params))
            .await
        {
            Err(RequestError::NotInstalled { .. }) => return Ok(objects),
            other => other?,
        };
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

/// `type/namespace/name` of the objects that have a copy in the cluster.
pub(crate) async fn objects_in(host: &Cluster, cluster: &str) -> Result<Vec<String>, GetError> {
    let mut found = Vec::new();
    for listed in all_types(host).await? {
        for object in list(host, &listed.resource, None).await? {
            if has_copy(&object.data, cluster) {
                let namespace =
                    object.namespace().map(|namespace| format!("{namespace}/")).unwrap_or_default();
                found.push(format!("{}/{namespace}{}", listed.resource.plural, object.name_any()));
            }
        }
    }
    Ok(found)
}

/// Type and name from the two arguments.
fn split(type_: Option<String>, name: Option<String>) -> Result<(Option<String>, Option<String>), GetError> {
    let Some(type_) = type_ else { return Ok((None, name)) };
    match (type_.split_once('/'), name) {
        (Some(_), Some(_)) => Err(GetError::TwoNames),
        (Some((type_, name)), None) => Ok((Some(type_.to_owned()), Some(name.to_owned()))),
        (None, name) => Ok((Some(type_), name)),
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<(), GetError> {
    let (wanted, name) = split(args.type_, args.name)?;
    let host = args.host.connect().await?;
    let known = all_types(&host).await?;
    let types = match &wanted {
        Some(wanted) => vec![chosen(&known, wanted)?.clone()],
        None => known,
    };
    let namespace = args.namespace.unwrap_or_else(|| host.default_namespace.clone());
    let namespace = (!args.all_namespaces).then_some(namespace.as_str());

    let mut groups = Vec::new();
    for listed in types {
        let mut objects = list(&host, &listed.resource, namespace).await?;
        objects.retain(|object| name.as_ref().is_none_or(|name| &object.name_any() == name));
        if !objects.is_empty() {
            groups.push((listed.clone(), objects));
        } else if let Some(name) = &name {
            let place = namespace.filter(|_| listed.resource.namespaced());
            return Err(GetError::NotFound {
                type_: listed.resource.plural,
                name: name.clone(),
                place: place.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default(),
            });
        }
    }
    let format = args.format.format();
    let text = match format {
        Format::Name => names(&groups),
        Format::Json | Format::Yaml => {
            let objects = groups.iter().flat_map(|(_, objects)| objects);
            let items = objects.map(serde_json::to_value).collect::<Result<_, _>>()?;
            output::objects(items, name.is_some(), format)?
        }
        Format::Table | Format::Wide if groups.is_empty() => {
            output::note(&match namespace {
                Some(namespace) => {
                    format!("No federated objects in namespace {namespace}; -A looks in all of them.")
                }
                None => "No federated objects.".to_owned(),
            });
            String::new()
        }
        Format::Table => table(&groups, args.all_namespaces, Timestamp::now(), output::colours()),
        Format::Wide => wide(&groups, args.all_namespaces, output::colours()),
    };
    Ok(output::print(&text)?)
}

type Group = (Listed, Vec<DynamicObject>);

fn names(groups: &[Group]) -> String {
    let name = |listed: &Listed, object: &DynamicObject| {
        format!("{}/{}", listed.qualified_kind(), object.name_any())
    };
    output::lines(
        groups.iter().flat_map(|(listed, objects)| objects.iter().map(move |object| name(listed, object))),
    )
}

/// The cells that name an object: its namespace where several are shown, and its type where several are.
fn identity(group: &Listed, object: &DynamicObject, namespaces: bool, types: bool) -> Vec<Field> {
    let mut cells = Vec::new();
    if namespaces {
        cells.push(or_none(&object.namespace().unwrap_or_default()).into());
    }
    let name = object.name_any();
    cells.push(if types { format!("{}/{name}", group.resource.kind.to_lowercase()) } else { name }.into());
    cells
}

fn headings<'a>(namespaces: bool, rest: &[&'a str]) -> Vec<&'a str> {
    let mut headings = if namespaces { vec!["NAMESPACE", "NAME"] } else { vec!["NAME"] };
    headings.extend(rest);
    headings
}

fn table(groups: &[Group], namespaces: bool, now: Timestamp, colours: bool) -> String {
    let mut rows = Vec::new();
    for (listed, objects) in groups {
        for object in objects {
            let summary = &object.data["status"]["summary"];
            let count = |key: &str| summary[key].as_u64().unwrap_or_default();
            let (clusters, in_sync, failed) = (count("clusters"), count("inSync"), count("failed"));
            let tone = match () {
                () if failed > 0 => Tone::Bad,
                () if in_sync == clusters => Tone::Good,
                () => Tone::Waiting,
            };
            let mut row = identity(listed, object, namespaces, groups.len() > 1);
            row.push(Field::new(format!("{in_sync}/{clusters}"), tone));
            row.push(or_none(&states(&object.data)).into());
            row.push(age(object.metadata.creation_timestamp.as_ref().map(|time| time.0), now).into());
            rows.push(row);
        }
    }
    draw(&headings(namespaces, &["IN-SYNC", "CLUSTERS", "AGE"]), rows, colours)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// A cluster's entry in the status: copies have a state, control planes a phase.
fn state(copy: &Value) -> &str {
    let state = text(copy, "state");
    if state.is_empty() { text(copy, "phase") } else { state }
}

fn copies(object: &Value) -> &[Value] {
    object["status"]["clusters"].as_array().map_or(&[], Vec::as_slice)
}

/// The clusters with their states: each by name while they are few, else how many are in which state.
fn states(object: &Value) -> String {
    let copies = copies(object);
    if copies.len() <= NAMED_CLUSTERS {
        let each: Vec<_> =
            copies.iter().map(|copy| format!("{}={}", text(copy, "name"), state(copy))).collect();
        return each.join(",");
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for copy in copies {
        *counts.entry(state(copy)).or_default() += 1;
    }
    let each: Vec<_> = counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
    each.join(", ")
}

fn tone(state: &str) -> Tone {
    match state {
        "InSync" | "Healthy" => Tone::Good,
        "Failed" => Tone::Bad,
        _ => Tone::Waiting,
    }
}

fn wide(groups: &[Group], namespaces: bool, colours: bool) -> String {
    let mut rows = Vec::new();
    for (listed, objects) in groups {
        for object in objects {
            let identity = identity(listed, object, namespaces, groups.len() > 1);
            if copies(&object.data).is_empty() {
                rows.push([identity.clone(), vec!["<none>".into(); 4]].concat());
            }
            for copy in copies(&object.data) {
                let mut row = identity.clone();
                row.push(text(copy, "name").into());
                row.push(Field::new(state(copy), tone(state(copy))));
                row.push(text(copy, "reason").into());
                row.push(text(copy, "message").into());
                rows.push(row);
            }
        }
    }
    draw(&headings(namespaces, &["CLUSTER", "STATE", "REASON", "MESSAGE"]), rows, colours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fedistio_crds::builtin_types;
    use serde_json::json;

    fn types() -> Vec<Listed> {
        let mut types: Vec<_> =
            builtin_types().iter().map(|builtin| Listed::new(&builtin.config().spec)).collect();
        types.push(Listed::istio());
        types
    }

    #[test]
    fn a_type_is_found_by_each_of_its_names() {
        let types = types();
        for name in [
            "federatedvirtualservices",
            "FederatedVirtualService",
            "federatedvirtualservices.types.fedistio.io",
            "fvs",
            "virtualservices",
            "VirtualService",
            "virtualservices.networking.istio.io",
        ] {
            assert_eq!(chosen(&types, name).unwrap().resource.kind, "FederatedVirtualService", "{name}");
        }
        for name in ["federatedistio", "federatedistios", "fistio"] {
            assert_eq!(chosen(&types, name).unwrap().resource.kind, "FederatedIstio", "{name}");
        }
    }

    #[test]
    fn unknown_and_ambiguous_types_are_explained() {
        let types = types();
        assert!(matches!(chosen(&types, "nonsense"), Err(GetError::UnknownType(_))));
        let error = chosen(&types, "gateway").unwrap_err().to_string();
        assert!(error.contains("federatedgateways or federatedkubernetesgateways"), "{error}");
        let one = chosen(&types, "gateways.gateway.networking.k8s.io").unwrap();
        assert_eq!(one.resource.kind, "FederatedKubernetesGateway");
    }

    #[test]
    fn type_and_name_come_in_one_word_or_two() {
        let two = |type_: &str, name: Option<&str>| split(Some(type_.to_owned()), name.map(str::to_owned));
        assert_eq!(two("fvs/a", None).unwrap(), (Some("fvs".to_owned()), Some("a".to_owned())));
        assert_eq!(two("fvs", Some("a")).unwrap(), (Some("fvs".to_owned()), Some("a".to_owned())));
        assert!(matches!(two("fvs/a", Some("b")), Err(GetError::TwoNames)));
    }

    fn object(name: &str, clusters: Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "types.fedistio.io/v1alpha1", "kind": "FederatedVirtualService",
            "metadata": { "name": name, "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "summary": { "clusters": 2, "inSync": 1, "failed": 1 }, "clusters": clusters },
        }))
        .unwrap()
    }

    #[test]
    fn tables_show_objects_and_wide_ones_clusters() {
        let clusters = json!([
            { "name": "east", "state": "InSync", "reason": "Applied" },
            { "name": "west", "state": "Failed", "reason": "Conflict", "message": "field .spec is kubectl's" },
        ]);
        let fvs = chosen(&types(), "fvs").unwrap().clone();
        let groups = vec![(fvs, vec![object("reviews", clusters), object("new", json!([]))])];
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(
            table(&groups, false, now, false),
            "NAME      IN-SYNC   CLUSTERS                  AGE\n\
             reviews   1/2       east=InSync,west=Failed   5m\n\
             new       1/2       <none>                    5m\n"
        );
        assert_eq!(
            wide(&groups, true, false),
            "NAMESPACE   NAME      CLUSTER   STATE    REASON     MESSAGE\n\
             ns          reviews   east      InSync   Applied\n\
             ns          reviews   west      Failed   Conflict   field .spec is kubectl's\n\
             ns          new       <none>    <none>   <none>     <none>\n"
        );
        assert_eq!(
            names(&groups),
            "federatedvirtualservice.types.fedistio.io/reviews\nfederatedvirtualservice.types.fedistio.io/new\n"
        );
    }

    #[test]
    fn many_clusters_are_counted() {
        let copies: Vec<_> = (0..9)
            .map(|index| json!({ "name": format!("c{index}"), "state": if index == 3 { "Failed" } else { "InSync" } }))
            .collect();
        assert_eq!(states(&json!({ "status": { "clusters": copies } })), "1 Failed, 8 InSync");
        let planes = json!({ "status": { "clusters": [{ "name": "a", "phase": "Healthy" }] } });
        assert_eq!(states(&planes), "a=Healthy");
    }
}
