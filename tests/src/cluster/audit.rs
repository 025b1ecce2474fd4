//! The API server's audit log: who wrote what, exactly.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// Metadata of every write, nothing of reads. <https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
";

/// A place in the audit log: what is written after it is counted. Made by [`Cluster::audit_mark`](super::Cluster::audit_mark).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditMark(pub(super) u64);

/// One write request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditWrite {
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Plural resource, with `/subresource` where there is one: `virtualservices`, `pods/status`.
    pub resource: String,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name; empty when the server chose it.
    pub name: String,
    /// For example `system:serviceaccount:fedistio-system:fedistio`.
    pub user: String,
    /// The client's user agent.
    pub user_agent: String,
    /// HTTP status of the answer; 0 when there was none.
    pub code: u16,
    /// Whether the request asked for no effect (`dryRun=All`).
    pub dry_run: bool,
    /// When it arrived, RFC 3339.
    pub time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI", default)]
    request_uri: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Response>,
    #[serde(default)]
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Response {
    code: Option<u16>,
}

/// One line of the log; `None` for lines that are no finished write.
fn parse(line: &str) -> Option<AuditWrite> {
    let event: Event = serde_json::from_str(line).ok()?;
    if event.stage != "ResponseComplete" {
        return None;
    }
    let object = event.object_ref.unwrap_or_default();
    let resource = match object.subresource.as_str() {
        "" => object.resource,
        subresource => format!("{}/{subresource}", object.resource),
    };
    Some(AuditWrite {
        verb: event.verb,
        group: object.api_group,
        resource,
        namespace: object.namespace,
        name: object.name,
        user: event.user.username,
        user_agent: event.user_agent,
        code: event.response_status.and_then(|status| status.code).unwrap_or(0),
        dry_run: event.request_uri.contains("dryRun=All"),
        time: event.request_received_timestamp,
    })
}

/// The log's present length.
pub(super) fn mark(path: &Path) -> AuditMark {
    AuditMark(std::fs::metadata(path).map_or(0, |metadata| metadata.len()))
}

/// The writes since the mark.
pub(super) fn since(path: &Path, mark: AuditMark) -> Result<Vec<AuditWrite>> {
    let read = || -> std::io::Result<Vec<AuditWrite>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut writes = Vec::new();
        for line in BufReader::new(file).lines() {
            writes.extend(parse(&line?));
        }
        Ok(writes)
    };
    read().with_context(|| format!("cannot read the audit log {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods/p/status?fieldManager=x&dryRun=All","verb":"patch","user":{"username":"me","groups":["g"]},"sourceIPs":["127.0.0.1"],"userAgent":"ua","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-01-01T00:00:00.000000Z","stageTimestamp":"2026-01-01T00:00:00.000000Z"}"#;

    #[test]
    fn reads_writes_after_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        assert_eq!(mark(&path), AuditMark(0));
        std::fs::write(&path, format!("{LINE}\nnot json\n")).unwrap();
        let all = since(&path, AuditMark(0)).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].resource.as_str(), all[0].code, all[0].dry_run), ("pods/status", 200, true));
        let end = mark(&path);
        assert!(since(&path, end).unwrap().is_empty());
    }
}
