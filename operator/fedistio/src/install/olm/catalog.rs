//! The file-based catalogue: one package, one channel, one bundle.

use crate::{
    install::{
        NAME, VERSION,
        olm::{CHANNEL, File, OlmError, csv, csv_name},
    },
    output::yaml::to_yaml_stream,
};
use fedistio_crds::all_crds;
use serde_json::{Value, json};

fn blobs(bundle_image: &str, image: &str) -> Result<[Value; 3], OlmError> {
    let mut properties: Vec<Value> = all_crds()
        .iter()
        .map(|crd| {
            let version = crd.spec.versions.first().map(|version| version.name.clone());
            let value = json!({ "group": crd.spec.group, "kind": crd.spec.names.kind, "version": version });
            json!({ "type": "olm.gvk", "value": value })
        })
        .collect();
    properties.push(json!({ "type": "olm.package", "value": { "packageName": NAME, "version": VERSION } }));
    properties.push(json!({ "type": "olm.csv.metadata", "value": csv::metadata()? }));
    Ok([
        json!({
            "schema": "olm.package",
            "name": NAME,
            "defaultChannel": CHANNEL,
            "description": "Istio and its resources on many Kubernetes clusters",
        }),
        json!({
            "schema": "olm.channel",
            "package": NAME,
            "name": CHANNEL,
            "entries": [{ "name": csv_name() }],
        }),
        json!({
            "schema": "olm.bundle",
            "package": NAME,
            "name": csv_name(),
            "image": bundle_image,
            "properties": properties,
            "relatedImages": [{ "name": "", "image": bundle_image }, { "name": NAME, "image": image }],
        }),
    ])
}

/// The files of the catalogue that offers the bundle in `bundle_image`, whose operator runs `image`.
pub(crate) fn catalog(bundle_image: &str, image: &str) -> Result<Vec<File>, OlmError> {
    let text = to_yaml_stream(blobs(bundle_image, image)?)?;
    Ok(vec![File { path: format!("{NAME}/catalog.yaml"), text }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_channel_and_bundle_refer_to_each_other() {
        let [package, channel, bundle] = blobs("bundle:1", "image:1").unwrap();
        assert_eq!(package["defaultChannel"], channel["name"]);
        assert_eq!(channel["entries"][0]["name"], bundle["name"]);
        assert_eq!(channel["package"], bundle["package"]);
        let of_type = |type_: &str| {
            bundle["properties"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|property| property["type"] == type_)
                .count()
        };
        assert_eq!((of_type("olm.package"), of_type("olm.csv.metadata")), (1, 1));
        assert_eq!(of_type("olm.gvk"), all_crds().len());
    }

    #[test]
    fn no_registry_is_named_where_none_is_given() {
        let file =
            catalog(&crate::install::olm::default_bundle_image(), &crate::install::default_image()).unwrap();
        let images = file[0]
            .text
            .lines()
            .filter(|line| line.trim_start().trim_start_matches("- ").starts_with("image: "));
        for image in images {
            assert!(!image.contains('/'), "{image}");
        }
    }
}
