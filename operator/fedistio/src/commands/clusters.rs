//! `fedistio clusters`: lists the members.

use crate::{
    cli::connection::{ConnectError, HostFlags, RequestError},
    commands::condition,
    output::{
        self, Format, FormatFlag, OutputError,
        age::age,
        table::{Field, Tone, draw, or_none},
    },
};
use fedistio_crds::{GROUP, MemberCluster};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::ListParams};

/// Lists the members: whether they are ready, their Kubernetes version, region and age.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  fedistio clusters
  fedistio clusters -o wide
  fedistio clusters -o name")]
pub(crate) struct Args {
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    host: HostFlags,
}

/// Why members can't be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClustersError {
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
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Result<(), ClustersError> {
    let host = args.host.connect().await?;
    let api: Api<MemberCluster> = Api::all(host.client.clone());
    let params = ListParams::default();
    let mut members =
        host.call_own("MemberClusters", "listing MemberClusters", api.list(&params)).await?.items;
    members.sort_by_key(kube::ResourceExt::name_any);
    let format = args.format.format();
    let text = match format {
        Format::Table | Format::Wide if members.is_empty() => {
            output::note("No members yet; `fedistio join NAME --cluster-context CONTEXT` makes one.");
            String::new()
        }
        Format::Table | Format::Wide => {
            table(&members, format == Format::Wide, Timestamp::now(), output::colours())
        }
        Format::Name => {
            output::lines(members.iter().map(|member| format!("membercluster.{GROUP}/{}", member.name_any())))
        }
        Format::Json | Format::Yaml => {
            let items = members.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
            output::objects(items, false, format)?
        }
    };
    Ok(output::print(&text)?)
}

fn table(members: &[MemberCluster], wide: bool, now: Timestamp, colours: bool) -> String {
    let mut headings = vec!["NAME", "READY", "VERSION", "REGION"];
    if wide {
        headings.extend(["ZONES", "NETWORK", "LABELS", "MESSAGE"]);
    }
    headings.push("AGE");
    let rows = members.iter().map(|member| row(member, wide, now)).collect();
    draw(&headings, rows, colours)
}

fn row(member: &MemberCluster, wide: bool, now: Timestamp) -> Vec<Field> {
    let status = member.status.clone().unwrap_or_default();
    let ready = condition(&status.conditions, "Ready");
    let (text, tone) = match ready.map(|ready| ready.status.as_str()) {
        Some("True") => ("True", Tone::Good),
        Some("False") => ("False", Tone::Bad),
        _ => ("Unknown", Tone::Waiting),
    };
    let optional = |text: &Option<String>| Field::from(or_none(text.as_deref().unwrap_or_default()));
    let mut row = vec![
        member.name_any().into(),
        Field::new(text, tone),
        optional(&status.kubernetes_version),
        optional(&status.region),
    ];
    if wide {
        let labels: Vec<String> =
            member.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
        row.push(or_none(&status.zones.join(",")).into());
        row.push(optional(&member.spec.network));
        row.push(or_none(&labels.join(",")).into());
        row.push(or_none(ready.map_or("", |ready| &ready.message)).into());
    }
    row.push(age(member.metadata.creation_timestamp.as_ref().map(|time| time.0), now).into());
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_known_and_unknown_members() {
        let member = |name: &str, status: serde_json::Value| -> MemberCluster {
            serde_json::from_value(json!({
                "apiVersion": "fedistio.io/v1alpha1", "kind": "MemberCluster",
                "metadata": {
                    "name": name, "creationTimestamp": "2026-01-01T00:00:00Z", "labels": { "env": "prod" },
                },
                "spec": { "access": { "kubeconfig": { "secretRef": { "name": "s" } } }, "network": "n1" },
                "status": status,
            }))
            .unwrap()
        };
        let members = [
            member(
                "east",
                json!({
                    "kubernetesVersion": "v1.34.4", "region": "r1", "zones": ["a", "b"],
                    "conditions": [{
                        "type": "Ready", "status": "True", "reason": "R", "message": "fine",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    }],
                }),
            ),
            member("west", json!(null)),
        ];
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(
            table(&members, false, now, false),
            "NAME   READY     VERSION   REGION   AGE\n\
             east   True      v1.34.4   r1       5m\n\
             west   Unknown   <none>    <none>   5m\n"
        );
        let wide = table(&members, true, now, false);
        assert!(wide.contains("a,b") && wide.contains("env=prod") && wide.contains("fine"), "{wide}");
    }
}
