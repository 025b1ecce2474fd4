//! `fedistio status`: the control planes and the stages of an upgrade.

use crate::{
    cli::{
        connection::{ConnectError, HostFlags, RequestError},
        values,
    },
    commands::condition,
    output::{
        self, Format, FormatFlag, OutputError,
        age::age,
        table::{Field, Tone, draw, or_none},
    },
};
use fedistio_crds::{
    ClusterControlPlane, ControlPlanePhase, FederatedIstio, FederatedIstioStatus, GROUP, RolloutProgress,
    StageState,
};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::ListParams};

/// Shows Istio's control planes: phase, version, revision, tag and proxies per cluster, and the stages of an upgrade.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio status
  fedistio status mesh -o wide
  fedistio status -o json")]
pub(crate) struct Args {
    /// Name of one FederatedIstio
    #[arg(value_parser = values::object_name)]
    name: Option<String>,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    host: HostFlags,
}

/// Why the status can't be shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
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
    /// There is no such mesh.
    #[error("there is no FederatedIstio {0}; `fedistio status` lists them")]
    NotFound(String),
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<(), StatusError> {
    let host = args.host.connect().await?;
    let api: Api<FederatedIstio> = Api::all(host.client.clone());
    let params = ListParams::default();
    let mut meshes =
        host.call_own("FederatedIstios", "listing FederatedIstios", api.list(&params)).await?.items;
    meshes.sort_by_key(kube::ResourceExt::name_any);
    if let Some(name) = &args.name {
        meshes.retain(|mesh| &mesh.name_any() == name);
        if meshes.is_empty() {
            return Err(StatusError::NotFound(name.clone()));
        }
    }
    let format = args.format.format();
    let text = match format {
        Format::Name => {
            output::lines(meshes.iter().map(|mesh| format!("federatedistio.{GROUP}/{}", mesh.name_any())))
        }
        Format::Json | Format::Yaml => {
            let items = meshes.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            output::objects(items, args.name.is_some(), format)?
        }
        Format::Table | Format::Wide if meshes.is_empty() => {
            output::note("No FederatedIstio yet.");
            String::new()
        }
        Format::Table | Format::Wide => {
            let (now, colours) = (Timestamp::now(), output::colours());
            let each: Vec<_> =
                meshes.iter().map(|mesh| overview(mesh, format == Format::Wide, now, colours)).collect();
            each.join("\n")
        }
    };
    Ok(output::print(&text)?)
}

fn overview(mesh: &FederatedIstio, wide: bool, now: Timestamp, colours: bool) -> String {
    let status = mesh.status.clone().unwrap_or_default();
    let mut text = heading(mesh, &status);
    if status.clusters.is_empty() {
        text.push_str("No clusters are placed, or the operator has not seen this mesh yet.\n");
    } else {
        text.push_str(&clusters(&status.clusters, wide, now, colours));
    }
    if let Some(rollout) = &status.rollout {
        text.push('\n');
        text.push_str(&stages(rollout, colours));
    }
    text
}

fn heading(mesh: &FederatedIstio, status: &FederatedIstioStatus) -> String {
    let summary = status.summary;
    let ready = condition(&status.conditions, "Ready");
    let ready = match ready {
        Some(ready) if ready.message.is_empty() => format!("Ready={} ({})", ready.status, ready.reason),
        Some(ready) => format!("Ready={} ({}: {})", ready.status, ready.reason, ready.message),
        None => "Ready=Unknown".to_owned(),
    };
    // What is said below is older than the spec until the operator has seen it.
    let stale = status.observed_generation < mesh.metadata.generation;
    format!(
        "{}: Istio {}, {} of {} clusters ready, {ready}{}\n",
        mesh.name_any(),
        mesh.spec.template.version,
        summary.in_sync,
        summary.clusters,
        if stale { ", a newer spec is not seen yet" } else { "" }
    )
}

fn clusters(clusters: &[ClusterControlPlane], wide: bool, now: Timestamp, colours: bool) -> String {
    let mut headings = vec!["CLUSTER", "PHASE", "VERSION", "REVISION", "TAG", "READY", "PROXIES"];
    if wide {
        headings.extend(["INSTALLED", "REASON", "SINCE"]);
    }
    headings.push("MESSAGE");
    let rows = clusters.iter().map(|plane| row(plane, wide, now)).collect();
    draw(&headings, rows, colours)
}

fn row(plane: &ClusterControlPlane, wide: bool, now: Timestamp) -> Vec<Field> {
    let tone = match plane.phase {
        ControlPlanePhase::Healthy => Tone::Good,
        ControlPlanePhase::Failed => Tone::Bad,
        _ => Tone::Waiting,
    };
    let proxies: Vec<_> =
        plane.proxies.iter().map(|(revision, count)| format!("{revision}:{count}")).collect();
    let mut row = vec![
        plane.name.clone().into(),
        Field::new(plane.phase.to_string(), tone),
        or_none(&plane.version).into(),
        or_none(&plane.revision).into(),
        or_none(plane.tag_revision.as_deref().unwrap_or_default()).into(),
        Field::new(plane.ready.to_string(), if plane.ready { Tone::Good } else { Tone::Waiting }),
        or_none(&proxies.join(",")).into(),
    ];
    if wide {
        let installed: Vec<_> = plane
            .revisions
            .iter()
            .map(|revision| format!("{}{}", revision.name, if revision.ready { "" } else { "(not ready)" }))
            .collect();
        row.push(or_none(&installed.join(",")).into());
        row.push(plane.reason.to_string().into());
        row.push(age(plane.last_transition_time.as_ref().map(|time| time.0), now).into());
    }
    row.push(plane.message.clone().into());
    row
}

fn stages(rollout: &RolloutProgress, colours: bool) -> String {
    let rows = rollout.stages.iter().enumerate().map(|(index, stage)| {
        let tone = match stage.state {
            StageState::Succeeded => Tone::Good,
            StageState::Stopped => Tone::Bad,
            StageState::Waiting => Tone::Plain,
            StageState::Progressing | StageState::Soaking => Tone::Waiting,
        };
        vec![
            format!("{}. {}", index + 1, stage.name).into(),
            Field::new(stage.state.to_string(), tone),
            or_none(&stage.clusters.join(",")).into(),
            stage.message.clone().into(),
        ]
    });
    draw(&["STAGE", "STATE", "CLUSTERS", "MESSAGE"], rows.collect(), colours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mesh(status: serde_json::Value) -> FederatedIstio {
        serde_json::from_value(json!({
            "apiVersion": "fedistio.io/v1alpha1", "kind": "FederatedIstio",
            "metadata": { "name": "mesh", "generation": 2 },
            "spec": { "template": { "version": "1.29.1" } },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_rollout_on_its_way_shows_clusters_and_stages() {
        let mesh = mesh(json!({
            "observedGeneration": 2,
            "summary": { "clusters": 2, "inSync": 1, "failed": 0 },
            "conditions": [{
                "type": "Ready", "status": "False", "reason": "Progressing", "message": "canary is on its way",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }],
            "clusters": [
                {
                    "name": "east", "phase": "MovingWorkloads", "reason": "ProxiesOnOldRevision", "ready": true,
                    "message": "1 proxy to go", "version": "1.29.1", "revision": "1-29-1", "tagRevision": "1-29-1",
                    "proxies": { "1-28-2": 1, "1-29-1": 5 },
                    "revisions": [
                        { "name": "1-28-2", "version": "1.28.2", "ready": true },
                        { "name": "1-29-1", "version": "1.29.1", "ready": false },
                    ],
                },
                { "name": "west", "phase": "Pending", "reason": "WaitingForStage", "ready": false },
            ],
            "rollout": {
                "targetRevision": "r2", "currentStage": "canary",
                "stages": [
                    { "name": "canary", "state": "Progressing", "clusters": ["east"] },
                    { "name": "rest", "state": "Waiting", "clusters": ["west"], "message": "canary first" },
                ],
            },
        }));
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(
            overview(&mesh, false, now, false),
            "mesh: Istio 1.29.1, 1 of 2 clusters ready, Ready=False (Progressing: canary is on its way)\n\
             CLUSTER   PHASE             VERSION   REVISION   TAG      READY   PROXIES             MESSAGE\n\
             east      MovingWorkloads   1.29.1    1-29-1     1-29-1   true    1-28-2:1,1-29-1:5   1 proxy to go\n\
             west      Pending           <none>    <none>     <none>   false   <none>\n\
             \n\
             STAGE       STATE         CLUSTERS   MESSAGE\n\
             1. canary   Progressing   east\n\
             2. rest     Waiting       west       canary first\n"
        );
        let wide = overview(&mesh, true, now, false);
        assert!(wide.contains("1-28-2,1-29-1(not ready)") && wide.contains("ProxiesOnOldRevision"), "{wide}");
    }

    #[test]
    fn a_mesh_without_a_status_is_not_taken_for_healthy() {
        let text = overview(&mesh(json!(null)), false, Timestamp::UNIX_EPOCH, false);
        assert!(text.contains("Ready=Unknown") && text.contains("not seen"), "{text}");
    }
}
