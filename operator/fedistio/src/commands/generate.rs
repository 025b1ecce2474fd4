//! Commands that generate files and need no cluster: `manifests`, `crds`, `olm`.

use crate::{
    cli::values,
    install::{
        default_image,
        manifests::{self, ManifestError},
        olm::{self, File, OlmError},
    },
    output::{
        self, OutputError,
        yaml::{YamlError, to_yaml, to_yaml_stream},
    },
};
use fedistio_crds::OPERATOR_NAMESPACE;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Prints the YAML that installs the operator on a host: namespace, custom resource definitions, permissions, Service and Deployment.
///
/// The operator makes the FederatedTypeConfigs of the built-in types itself when it starts and they are missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio manifests --image registry.example/fedistio:0.1.0 | kubectl apply --server-side -f -
  fedistio manifests --namespace mesh-admin > fedistio.yaml
  fedistio manifests --type-configs | kubectl apply --server-side -f -")]
pub(crate) struct ManifestsArgs {
    /// Namespace of the operator
    #[arg(short, long, value_name = "NAMESPACE", default_value = OPERATOR_NAMESPACE, value_parser = values::cluster_name)]
    namespace: String,
    /// Image of the operator
    #[arg(long, value_name = "IMAGE", default_value_t = default_image())]
    image: String,
    /// Print the FederatedTypeConfigs of the built-in types instead; they can be applied once the definitions are there
    #[arg(long)]
    type_configs: bool,
}

/// Prints the custom resource definitions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio crds | kubectl apply --server-side -f -
  fedistio crds -o crds/yaml")]
pub(crate) struct CrdsArgs {
    /// Folder to write one file per definition into, instead of printing
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Generates the bundle or the catalogue for the Operator Lifecycle Manager.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio olm bundle -o olm/bundle --image registry.example/fedistio:0.1.0
  fedistio olm catalog -o olm/catalog --bundle-image registry.example/fedistio-bundle:0.1.0")]
pub(crate) struct OlmArgs {
    #[command(subcommand)]
    what: OlmCommand,
}

#[derive(Debug, clap::Subcommand)]
enum OlmCommand {
    /// The bundle: ClusterServiceVersion, custom resource definitions, annotations
    #[command(after_help = "\
Examples:
  fedistio olm bundle
  fedistio olm bundle -o olm/bundle --image registry.example/fedistio:0.1.0")]
    Bundle {
        /// Folder to write the bundle into, instead of printing
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Image of the operator
        #[arg(long, value_name = "IMAGE", default_value_t = default_image())]
        image: String,
    },
    /// The file-based catalogue with one channel
    #[command(after_help = "\
Examples:
  fedistio olm catalog
  fedistio olm catalog -o olm/catalog --bundle-image registry.example/fedistio-bundle:0.1.0")]
    Catalog {
        /// Folder to write the catalogue into, instead of printing
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        /// Image of the bundle
        #[arg(long, value_name = "IMAGE", default_value_t = olm::default_bundle_image())]
        bundle_image: String,
        /// Image of the operator, which the catalogue lists as related
        #[arg(long, value_name = "IMAGE", default_value_t = default_image())]
        image: String,
    },
}

/// Why files can't be generated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerateError {
    /// An object can't be encoded.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The bundle or catalogue can't be made.
    #[error(transparent)]
    Olm(#[from] OlmError),
    /// The result can't be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The result can't be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A file can't be written.
    #[error("can't write {}; check that the folder is yours to write and the disk is not full", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Runs `fedistio manifests`.
pub(crate) fn manifests(args: &ManifestsArgs) -> Result<(), GenerateError> {
    let objects = if args.type_configs {
        manifests::type_configs()?
    } else {
        manifests::manifests(&args.namespace, &args.image)?
    };
    Ok(output::print(&to_yaml_stream(objects)?)?)
}

/// Runs `fedistio crds`.
pub(crate) fn crds(args: &CrdsArgs) -> Result<(), GenerateError> {
    deliver(&crd_files()?, args.output.as_deref())
}

/// Runs `fedistio olm`.
pub(crate) fn olm(args: &OlmArgs) -> Result<(), GenerateError> {
    match &args.what {
        OlmCommand::Bundle { output, image } => deliver(&olm::bundle(image)?, output.as_deref()),
        OlmCommand::Catalog { output, bundle_image, image } => {
            deliver(&olm::catalog(bundle_image, image)?, output.as_deref())
        }
    }
}

/// One file per definition, named after it.
fn crd_files() -> Result<Vec<File>, GenerateError> {
    let file = |object: Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Ok(File { path: format!("{name}.yaml"), text: to_yaml(&object)? })
    };
    manifests::crds()?.into_iter().map(file).collect()
}

/// Writes the files below `folder`, or prints those that are YAML as one stream.
fn deliver(files: &[File], folder: Option<&Path>) -> Result<(), GenerateError> {
    let Some(folder) = folder else {
        let yaml =
            |file: &&File| Path::new(&file.path).extension().is_some_and(|extension| extension == "yaml");
        let mut stream = String::new();
        for file in files.iter().filter(yaml) {
            stream.push_str("---\n");
            stream.push_str(file.text.trim_start_matches("---\n"));
        }
        return Ok(output::print(&stream)?);
    };
    for file in files {
        let path = folder.join(&file.path);
        let parent = path.parent().unwrap_or(folder);
        let error = |path: &Path, source| GenerateError::Write { path: path.to_owned(), source };
        std::fs::create_dir_all(parent).map_err(|source| error(parent, source))?;
        std::fs::write(&path, &file.text).map_err(|source| error(&path, source))?;
    }
    output::note(&format!("wrote {} files into {}", files.len(), folder.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Every file below `folder`, by its path from there.
    fn on_disk(folder: &Path, below: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(below).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                on_disk(folder, &path, found);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    fn assert_current(folder: &str, files: Vec<File>, command: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
        let mut found = BTreeMap::new();
        on_disk(&path, &path, &mut found);
        let advice = format!("run `cargo run -p fedistio -- {command}` and commit the result");
        for file in files {
            let committed = found.remove(&file.path);
            assert!(
                committed.as_deref() == Some(file.text.as_str()),
                "{folder}/{} is not current: {advice}",
                file.path
            );
        }
        let left: Vec<_> = found.keys().collect();
        assert!(left.is_empty(), "{folder} holds files that are no longer generated, delete them: {left:?}");
    }

    #[test]
    fn the_committed_definitions_are_current() {
        assert_current("crds/yaml", crd_files().unwrap(), "crds -o crds/yaml");
    }

    #[test]
    fn the_committed_bundle_is_current() {
        assert_current("olm/bundle", olm::bundle(&default_image()).unwrap(), "olm bundle -o olm/bundle");
    }

    #[test]
    fn the_committed_catalogue_is_current() {
        let files = olm::catalog(&olm::default_bundle_image(), &default_image()).unwrap();
        assert_current("olm/catalog", files, "olm catalog -o olm/catalog");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = deliver(&crd_files().unwrap(), Some(file.path())).unwrap_err().to_string();
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn everything_that_is_written_reads_back_as_it_was() {
        let objects = manifests::manifests("ns", "image:1").unwrap();
        let text = to_yaml_stream(&objects).unwrap();
        let back: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(back, objects);
    }
}
