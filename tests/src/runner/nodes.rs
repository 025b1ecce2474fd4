//! The nodes' objects.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::Setup;
use super::env::{NODE_CPUS, NODE_MEMORY};
use super::schedule::NodeInfo;

const MANAGER: &str = "testbed-node";

/// The names, regions and zones of a cluster's nodes: each in a zone of its own.
pub(super) fn plan(cluster: &str, region: &str, count: usize) -> Vec<NodeInfo> {
    (0..count)
        .map(|index| {
            let name = format!("{cluster}-node{}", index + 1);
            let zone = format!("{region}-{}", char::from(b'a' + u8::try_from(index % 26).unwrap_or(0)));
            let labels = [
                ("kubernetes.io/hostname", name.clone()),
                ("kubernetes.io/os", "linux".to_owned()),
                ("kubernetes.io/arch", "amd64".to_owned()),
                ("topology.kubernetes.io/region", region.to_owned()),
                ("topology.kubernetes.io/zone", zone),
            ];
            NodeInfo { name, labels: labels.map(|(key, value)| (key.to_owned(), value)).into() }
        })
        .collect()
}

/// Creates or renews the nodes.
pub(super) async fn create(client: &Client, setup: &Setup) -> Result<Vec<NodeInfo>> {
    let api = Api::<Node>::all(client.clone());
    let nodes = plan(&setup.cluster, &setup.region, setup.nodes);
    let apply = PatchParams::apply(MANAGER).force();
    for (index, node) in nodes.iter().enumerate() {
        let capacity = BTreeMap::from([
            ("cpu", NODE_CPUS.to_string()),
            ("memory", NODE_MEMORY.to_string()),
            ("pods", "110".to_owned()),
        ]);
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node.name, "labels": node.labels},
            // Admission taints a new node until it is ready, and no node controller runs here to take that away.
            "spec": {"podCIDR": format!("10.{}.{index}.0/24", 200_usize + usize::from(setup.index)), "taints": []},
        });
        let status = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name},
            "status": {
                "capacity": capacity, "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": node.name}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the test bed's node",
                    "lastHeartbeatTime": jiff::Timestamp::now(), "lastTransitionTime": jiff::Timestamp::now()}],
                "nodeInfo": {"kubeletVersion": setup.version, "operatingSystem": "linux", "architecture": "amd64",
                    "osImage": "testbed", "kernelVersion": "", "containerRuntimeVersion": "testbed://1",
                    "kubeProxyVersion": "", "machineID": node.name, "systemUUID": "", "bootID": ""},
            },
        });
        let put = async {
            api.patch(&node.name, &apply, &Patch::Apply(&object)).await?;
            api.patch_status(&node.name, &apply, &Patch::Apply(&status)).await?;
            let untaint = json!({"spec": {"taints": null}});
            api.patch(&node.name, &PatchParams::default(), &Patch::Merge(&untaint)).await
        };
        put.await.with_context(|| format!("cannot create node {}", node.name))?;
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_zone() {
        let nodes = plan("member1", "eu-1", 2);
        assert_eq!(nodes[1].name, "member1-node2");
        assert_eq!(nodes[0].labels["topology.kubernetes.io/region"], "eu-1");
        assert_eq!(nodes[1].labels["topology.kubernetes.io/zone"], "eu-1-b");
    }
}
