//! The bundle: one version of the operator.

use crate::{
    install::{
        NAME,
        manifests::metrics_service,
        olm::{CHANNEL, File, OlmError, csv},
    },
    output::{lines, yaml::to_yaml},
};
use serde_json::{Value, json};

/// The annotations that name the bundle's parts, on the image as on the disk.
fn annotations() -> [(&'static str, &'static str); 6] {
    [
        ("operators.operatorframework.io.bundle.mediatype.v1", "registry+v1"),
        ("operators.operatorframework.io.bundle.manifests.v1", "manifests/"),
        ("operators.operatorframework.io.bundle.metadata.v1", "metadata/"),
        ("operators.operatorframework.io.bundle.package.v1", NAME),
        ("operators.operatorframework.io.bundle.channels.v1", CHANNEL),
        ("operators.operatorframework.io.bundle.channel.default.v1", CHANNEL),
    ]
}

fn dockerfile() -> String {
    let labels = lines(annotations().iter().map(|(key, value)| format!("LABEL {key}={value}")));
    format!("FROM scratch\n\n{labels}\nCOPY manifests /manifests/\nCOPY metadata /metadata/\n")
}

/// The files of the bundle whose operator runs `image`.
pub(crate) fn bundle(image: &str) -> Result<Vec<File>, OlmError> {
    let yaml =
        |path: String, value: &Value| -> Result<File, OlmError> { Ok(File { path, text: to_yaml(value)? }) };
    let mut files = vec![yaml(
        format!("manifests/{NAME}.clusterserviceversion.yaml"),
        &csv::cluster_service_version(image)?,
    )?];
    for crd in csv::definitions()? {
        let name = crd["metadata"]["name"].as_str().unwrap_or_default();
        files.push(yaml(format!("manifests/{name}.yaml"), &crd)?);
    }
    files.push(yaml(format!("manifests/{NAME}-metrics_v1_service.yaml"), &metrics_service(None))?);
    let annotations: serde_json::Map<_, _> =
        annotations().iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    files.push(yaml("metadata/annotations.yaml".to_owned(), &json!({ "annotations": annotations }))?);
    files.push(File { path: "bundle.Dockerfile".to_owned(), text: dockerfile() });
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_labels_are_the_annotations() {
        let files = bundle("image:1").unwrap();
        let text = |path: &str| files.iter().find(|file| file.path == path).unwrap().text.clone();
        let metadata: Value = serde_saphyr::from_str(&text("metadata/annotations.yaml")).unwrap();
        let dockerfile = text("bundle.Dockerfile");
        for (key, value) in metadata["annotations"].as_object().unwrap() {
            assert!(dockerfile.contains(&format!("LABEL {key}={}\n", value.as_str().unwrap())), "{key}");
        }
    }

    #[test]
    fn names_of_files_are_unique() {
        let mut names: Vec<_> = bundle("image:1").unwrap().into_iter().map(|file| file.path).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
