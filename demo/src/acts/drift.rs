//! Act 5: somebody edits copies in a member by hand; they are put right.

use crate::{
    acts::bookinfo::{NAMESPACE, connections_of, subset, subset_of},
    observe,
    show::{self, table},
    stage::{Stage, kubectl},
};
use anyhow::{Context as _, Result, bail, ensure};
use fedistio_tests::Cluster;
use futures::{StreamExt as _, future};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use std::{
    pin::pin,
    time::{Duration, Instant},
};

const ACT: usize = 5;
/// How long a copy may take to be put right.
const PUT_RIGHT: Duration = Duration::from_secs(30);

/// One edit by hand.
struct Edit {
    what: &'static str,
    kind: &'static str,
    plural: &'static str,
    name: &'static str,
    /// A merge patch; `None` deletes the object.
    patch: Option<Value>,
    /// The `kubectl` command that does the same.
    command: &'static str,
    right: fn(&DynamicObject) -> bool,
}

/// Three ways to break a copy in a production cluster.
fn edits() -> [Edit; 3] {
    [
        Edit {
            what: "the route of reviews changed to v2",
            kind: "VirtualService",
            plural: "virtualservices",
            name: "reviews",
            patch: Some(
                json!({"spec": {"http": [{"route": [{"destination": {"host": "reviews", "subset": "v2"}}]}]}}),
            ),
            command: r#"patch virtualservice reviews --type merge -p '{"spec":{"http":[{"route":[{"destination":{"host":"reviews","subset":"v2"}}]}]}}'"#,
            right: |object| subset_of(object) == "v1",
        },
        Edit {
            what: "the connection limit of ratings removed",
            kind: "DestinationRule",
            plural: "destinationrules",
            name: "ratings",
            patch: Some(json!({"spec": {"trafficPolicy": {"connectionPool": null}}})),
            command: r#"patch destinationrule ratings --type merge -p '{"spec":{"trafficPolicy":{"connectionPool":null}}}'"#,
            right: |object| connections_of(object) == 100,
        },
        Edit {
            what: "the VirtualService of details deleted",
            kind: "VirtualService",
            plural: "virtualservices",
            name: "details",
            patch: None,
            command: "delete virtualservice details",
            right: |object| subset_of(object) == "v1",
        },
    ]
}

/// Edits copies and measures how long it takes until they are right again.
pub(crate) async fn play(stage: &Stage) -> Result<()> {
    show::act(ACT, "somebody's manual edit is put right");
    let member = stage.rest().first().context("there is no member besides the canary")?;
    let mut rows = Vec::new();
    for edit in edits() {
        let command = format!("{} --namespace {NAMESPACE}", edit.command);
        show::command::prompt(&kubectl(member, &command));
        let took = put_right(member, &edit).await.with_context(|| edit.what)?;
        rows.push([edit.what.to_owned(), member.name().to_owned(), show::span(took)]);
    }
    table::print(["edit", "in", "right again after"], rows);
    let canary = subset(stage.canary()?).await?;
    ensure!(canary == "v3", "the canary's override is gone: reviews go to {canary}");
    stage.verified(
        ACT,
        format!("a changed, a removed and a deleted copy were put right in {}", member.name()),
    );
    show::look_around(&[
        kubectl(member, "get virtualservice reviews --namespace bookinfo -o yaml --show-managed-fields"),
        kubectl(&stage.bed.host, "get events --namespace bookinfo"),
    ]);
    Ok(())
}

/// Makes the edit, and returns the time from its answer until a watch shows the object as it should be.
async fn put_right(member: &Cluster, edit: &Edit) -> Result<Duration> {
    let api = observe::networking(member, edit.kind, edit.plural, NAMESPACE);
    let before = api.get(edit.name).await.with_context(|| format!("{} is not there", edit.name))?;
    ensure!((edit.right)(&before), "{} is not as it should be before the edit", edit.name);
    let version = before.metadata.resource_version.unwrap_or_default();
    // Opened before the edit, so that its own start is not measured.
    let params = WatchParams::default().fields(&format!("metadata.name={}", edit.name));
    let events = api.watch(&params, &version).await.context("the object can't be watched")?;
    make(&api, edit).await?;
    let edited = Instant::now();
    let mut broken = false;
    let mut events = pin!(events);
    let right = async {
        while let Some(event) = events.next().await {
            match event.context("the watch has failed")? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    if !(edit.right)(&object) {
                        broken = true;
                    } else if broken {
                        return Ok(edited.elapsed());
                    }
                }
                WatchEvent::Deleted(_) => broken = true,
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => bail!("the watch has failed: {}", status.message),
            }
        }
        bail!("the watch has ended")
    };
    let late = tokio::time::sleep(PUT_RIGHT);
    match future::select(pin!(right), pin!(late)).await {
        future::Either::Left((took, _)) => took,
        future::Either::Right(_) => bail!("{} was not put right within {} s", edit.name, PUT_RIGHT.as_secs()),
    }
}

async fn make(api: &Api<DynamicObject>, edit: &Edit) -> Result<()> {
    match &edit.patch {
        Some(patch) => {
            let params =
                PatchParams { field_manager: Some("kubectl-patch".to_owned()), ..PatchParams::default() };
            api.patch(edit.name, &params, &Patch::Merge(patch)).await.context("the edit was refused")?;
        }
        None => {
            api.delete(edit.name, &DeleteParams::default()).await.context("the deletion was refused")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_command_does_what_the_act_does() {
        for edit in edits() {
            let Some(patch) = edit.patch else {
                assert!(edit.command.starts_with("delete "));
                continue;
            };
            let quoted = edit.command.split('\'').nth(1).unwrap();
            assert_eq!(serde_json::from_str::<Value>(quoted).unwrap(), patch);
        }
    }
}
