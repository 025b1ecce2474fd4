//! Makes the CRD of a `Federated<Kind>` from its type config.

use crate::{FederatedSpec, FederatedStatus, FederatedTypeConfigSpec, ResourceType, schema::tidy_schema};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
        CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
        CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use schemars::generate::SchemaSettings;
use std::collections::BTreeMap;

/// Category of the generated types: `kubectl get federated`.
const FEDERATED_CATEGORY: &str = "federated";

/// The CRD of the federated type that `config` names. Its template keeps any field; the target's own schema is
/// enforced by the members.
pub fn federated_crd(config: &FederatedTypeConfigSpec) -> CustomResourceDefinition {
    let federated = &config.federated;
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(federated.qualified_name()), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            group: federated.group.clone(),
            names: CustomResourceDefinitionNames {
                kind: federated.kind.clone(),
                list_kind: Some(format!("{}List", federated.kind)),
                plural: federated.plural.clone(),
                singular: Some(federated.kind.to_lowercase()),
                short_names: Some(vec![short_name(config)]),
                categories: Some(vec![FEDERATED_CATEGORY.to_owned()]),
            },
            scope: federated.scope.to_string(),
            versions: vec![CustomResourceDefinitionVersion {
                name: federated.version.clone(),
                served: true,
                storage: true,
                schema: Some(CustomResourceValidation { open_api_v3_schema: Some(object_schema(config)) }),
                subresources: Some(CustomResourceSubresources {
                    status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
                    ..CustomResourceSubresources::default()
                }),
                additional_printer_columns: Some(printer_columns()),
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

/// The federated type as kube's dynamic API wants it.
pub fn federated_resource(config: &FederatedTypeConfigSpec) -> kube::discovery::ApiResource {
    config.federated.api_resource()
}

/// `f` and the target's customary short name, or the initials of its kind.
pub(crate) fn short_name(config: &FederatedTypeConfigSpec) -> String {
    let target: &ResourceType = &config.target;
    let known = match (target.group.as_str(), target.plural.as_str()) {
        ("", "namespaces") => Some("ns"),
        ("", "services") => Some("svc"),
        ("", "serviceaccounts") => Some("sa"),
        ("", "configmaps") => Some("cm"),
        ("", "secrets") => Some("sec"),
        ("apps", "deployments") => Some("deploy"),
        ("networking.istio.io", "gateways") => Some("gw"),
        ("gateway.networking.k8s.io", "gateways") => Some("kgw"),
        ("networking.istio.io", "sidecars") => Some("sidecar"),
        ("networking.istio.io", "proxyconfigs") => Some("pc"),
        ("telemetry.istio.io", "telemetries") => Some("telemetry"),
        _ => None,
    };
    let initials = || target.kind.chars().filter(char::is_ascii_uppercase).collect::<String>().to_lowercase();
    format!("f{}", known.map_or_else(initials, str::to_owned))
}

fn object_schema(config: &FederatedTypeConfigSpec) -> JSONSchemaProps {
    let plain = |type_: &str, description: &str| JSONSchemaProps {
        type_: Some(type_.to_owned()),
        description: Some(description.to_owned()),
        ..JSONSchemaProps::default()
    };
    let mut properties = BTreeMap::new();
    properties.insert("apiVersion".to_owned(), plain("string", "Version of this object's schema."));
    properties.insert("kind".to_owned(), plain("string", "Kind of this object."));
    properties.insert(
        "metadata".to_owned(),
        JSONSchemaProps { type_: Some("object".to_owned()), ..JSONSchemaProps::default() },
    );
    properties.insert("spec".to_owned(), derived::<FederatedSpec>());
    properties.insert("status".to_owned(), derived::<FederatedStatus>());
    JSONSchemaProps {
        type_: Some("object".to_owned()),
        description: Some(format!(
            "A {} on many clusters: a template, a placement, and overrides per cluster.",
            config.target.kind
        )),
        required: Some(vec!["spec".to_owned()]),
        properties: Some(properties),
        ..JSONSchemaProps::default()
    }
}

/// The structural schema that schemars derives for `T`, with kube's rewriting for what Kubernetes does not take.
fn derived<T: schemars::JsonSchema>() -> JSONSchemaProps {
    let schema = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(kube::core::schema::StructuralSchemaRewriter)
        .with_transform(kube::core::schema::OptionalEnum)
        .with_transform(kube::core::schema::OptionalIntOrString)
        .into_generator()
        .into_root_schema_for::<T>();
    let mut props: JSONSchemaProps = serde_json::from_value(schema.to_value()).unwrap_or_default();
    tidy_schema(&mut props);
    props
}

fn printer_columns() -> Vec<CustomResourceColumnDefinition> {
    let column = |name: &str, type_: &str, path: &str| CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: type_.to_owned(),
        json_path: path.to_owned(),
        ..CustomResourceColumnDefinition::default()
    };
    vec![
        column("Clusters", "integer", ".status.summary.clusters"),
        column("In-Sync", "integer", ".status.summary.inSync"),
        column("Failed", "integer", ".status.summary.failed"),
        column("Propagated", "string", r#".status.conditions[?(@.type=="Propagated")].status"#),
        column("Age", "date", ".metadata.creationTimestamp"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_derived_schemas_are_not_empty() {
        let crd = federated_crd(&crate::builtin_types()[0].config().spec);
        let schema = crd.spec.versions[0]
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.clone())
            .unwrap();
        let properties = schema.properties.unwrap();
        let spec = properties["spec"].properties.as_ref().unwrap();
        assert_eq!(spec["template"].x_kubernetes_preserve_unknown_fields, Some(true));
        assert!(spec["overrides"].items.is_some());
        assert!(properties["status"].properties.as_ref().unwrap().contains_key("clusters"));
    }
}
