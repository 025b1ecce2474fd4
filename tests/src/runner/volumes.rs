//! Volumes of a pod that is a process: config maps, secrets and projected tokens as files under the pod's own root folder.
//!
//! istiod opens its files by paths relative to its working folder (`./etc/cacerts`, `./var/run/secrets/…`), so a process whose
//! working folder is that root finds what it would find in its container.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt as _;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Container, KeyToPath, Pod, Secret, ServiceAccount, Volume};
use kube::api::PostParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::task::JoinSet;

/// How long tokens for pods live, in seconds: longer than any test bed.
pub(super) const TOKEN_SECONDS: i64 = 7 * 24 * 3600;

/// A config map or secret whose data are files in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    kind: SourceKind,
    name: String,
    optional: bool,
    /// Empty: every key becomes a file of its name.
    items: Vec<(String, String)>,
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourceKind {
    ConfigMap,
    Secret,
}

/// Writes the volumes that a container mounts and returns tasks that keep them up to date.
///
/// # Errors
/// A missing config map or secret that is not optional, as a kubelet would say it.
pub(super) async fn mount(
    client: &Client,
    pod: &Pod,
    container: &Container,
    root: &Path,
) -> Result<JoinSet<()>> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut tasks = JoinSet::new();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(volume) = volumes.iter().find(|volume| volume.name == mount.name) else { continue };
        let dir = inside(root, &mount.mount_path)?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        write_projected(client, pod, volume, &dir).await?;
        for source in sources(volume, &dir) {
            let data = fetch(client, &namespace, &source).await?;
            if data.is_none() && !source.optional {
                bail!(
                    "MountVolume.SetUp failed for volume \"{}\": {:?} \"{}\" not found",
                    volume.name,
                    source.kind,
                    source.name
                );
            }
            write_files(&source, data.as_ref());
            tasks.spawn(keep(client.clone(), namespace.clone(), source));
        }
    }
    Ok(tasks)
}

/// A mount path inside the pod's root; a path that would leave it is refused.
fn inside(root: &Path, mount: &str) -> Result<PathBuf> {
    let mut path = root.to_path_buf();
    for component in Path::new(mount).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                bail!("mount path '{mount}' leaves the pod's folder")
            }
        }
    }
    Ok(path)
}

fn items(keys: Option<&Vec<KeyToPath>>) -> Vec<(String, String)> {
    keys.into_iter().flatten().map(|item| (item.key.clone(), item.path.clone())).collect()
}

fn sources(volume: &Volume, dir: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut add = |kind, name: &str, optional: Option<bool>, keys: Option<&Vec<KeyToPath>>| {
        let (name, optional, items) = (name.to_owned(), optional.unwrap_or(false), items(keys));
        found.push(Source { kind, name, optional, items, dir: dir.to_path_buf() });
    };
    if let Some(map) = &volume.config_map {
        add(SourceKind::ConfigMap, &map.name, map.optional, map.items.as_ref());
    }
    if let Some(secret) = &volume.secret {
        add(
            SourceKind::Secret,
            secret.secret_name.as_deref().unwrap_or_default(),
            secret.optional,
            secret.items.as_ref(),
        );
    }
    for projection in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(map) = &projection.config_map {
            add(SourceKind::ConfigMap, &map.name, map.optional, map.items.as_ref());
        }
        if let Some(secret) = &projection.secret {
            add(SourceKind::Secret, &secret.name, secret.optional, secret.items.as_ref());
        }
    }
    found
}

/// Tokens and the namespace of projected volumes.
async fn write_projected(client: &Client, pod: &Pod, volume: &Volume, dir: &Path) -> Result<()> {
    for projection in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(wanted) = &projection.service_account_token {
            let token = token(client, pod, wanted.audience.as_deref()).await?;
            write(&dir.join(&wanted.path), token.as_bytes());
        }
        for file in projection.downward_api.iter().flat_map(|api| api.items.iter().flatten()) {
            let value = file.field_ref.as_ref().and_then(|field| super::env::field(pod, &field.field_path));
            write(&inside(dir, &file.path)?, value.unwrap_or_default().as_bytes());
        }
    }
    Ok(())
}

/// A token of the pod's service account, bound to the pod: it ends with it.
pub(super) async fn token(client: &Client, pod: &Pod, audience: Option<&str>) -> Result<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let account =
        pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: audience.map(str::to_owned).into_iter().collect(),
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let answer = Api::<ServiceAccount>::namespaced(client.clone(), namespace)
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("no token for service account {namespace}/{account}"))?;
    Ok(answer.status.context("an answer without token")?.token)
}

type Data = BTreeMap<String, Vec<u8>>;

fn config_map_data(map: ConfigMap) -> Data {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))).collect()
}

fn secret_data(secret: Secret) -> Data {
    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

async fn fetch(client: &Client, namespace: &str, source: &Source) -> Result<Option<Data>> {
    let (client, name) = (client.clone(), source.name.as_str());
    let data = match source.kind {
        SourceKind::ConfigMap => {
            Api::namespaced(client, namespace).get_opt(name).await.map(|got| got.map(config_map_data))
        }
        SourceKind::Secret => {
            Api::namespaced(client, namespace).get_opt(name).await.map(|got| got.map(secret_data))
        }
    };
    data.with_context(|| format!("cannot read {:?} {namespace}/{name}", source.kind))
}

/// Follows the object and rewrites the files on each change, at once rather than within a kubelet's minute.
async fn keep(client: Client, namespace: String, source: Source) {
    match source.kind {
        SourceKind::ConfigMap => follow(Api::namespaced(client, &namespace), &source, config_map_data).await,
        SourceKind::Secret => follow(Api::namespaced(client, &namespace), &source, secret_data).await,
    }
}

async fn follow<K>(api: Api<K>, source: &Source, data: fn(K) -> Data)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = watcher::watch_object(api, &source.name).boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(object) => write_files(source, object.map(data).as_ref()),
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Makes the folder's files equal to the data; files of keys that are gone are removed, other sources' files are left.
fn write_files(source: &Source, data: Option<&Data>) {
    let known = source.dir.join(format!(".{:?}-{}", source.kind, source.name));
    let before = fs::read_to_string(&known).unwrap_or_default();
    let mut now = Vec::new();
    for (key, value) in data.into_iter().flatten() {
        let path = if source.items.is_empty() {
            Some(key.as_str())
        } else {
            source.items.iter().find(|(wanted, _)| wanted == key).map(|(_, path)| path.as_str())
        };
        if let Some(path) = path
            && let Ok(file) = inside(&source.dir, path)
        {
            write(&file, value);
            now.push(path.to_owned());
        }
    }
    for gone in before.lines().filter(|old| !now.iter().any(|new| new == old)) {
        if let Ok(file) = inside(&source.dir, gone) {
            fs::remove_file(file).ok();
        }
    }
    fs::write(known, now.join("\n")).ok();
}

/// Writes a file by a rename, and only when it changes, as readers watch the folder.
fn write(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return;
    }
    let temporary = path.with_extension("fresh");
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&temporary, bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_stay_inside() {
        let root = Path::new("/tmp/pod");
        assert_eq!(inside(root, "/etc/cacerts").unwrap(), Path::new("/tmp/pod/etc/cacerts"));
        assert!(inside(root, "/../../etc").is_err());
    }

    #[test]
    fn files_follow_the_data() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source {
            kind: SourceKind::Secret,
            name: "s".into(),
            optional: true,
            items: Vec::new(),
            dir: dir.path().to_path_buf(),
        };
        let data = |keys: &[&str]| {
            keys.iter().map(|key| ((*key).to_owned(), key.as_bytes().to_vec())).collect::<Data>()
        };
        write_files(&source, Some(&data(&["a", "b"])));
        assert_eq!(fs::read_to_string(dir.path().join("a")).unwrap(), "a");
        write_files(&source, Some(&data(&["b"])));
        assert!(!dir.path().join("a").exists());
        write_files(&source, None);
        assert!(!dir.path().join("b").exists());
    }
}
