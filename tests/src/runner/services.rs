//! Addresses for Services of type LoadBalancer.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

/// Follows Services and gives each load balancer an address of loopback's network. Nothing listens there: it only makes
/// gateways look as ready as behind a cloud's load balancer.
pub(super) async fn run(client: Client, index: u8) {
    let mut events =
        watcher(Api::<Service>::all(client.clone()), watcher::Config::default()).touched_objects().boxed();
    let mut given: u16 = 0;
    while let Some(event) = events.next().await {
        let Ok(service) = event else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        if !needs_address(&service) {
            continue;
        }
        given = given.wrapping_add(1);
        let [high, low] = given.to_be_bytes();
        let ip = format!("127.{}.{high}.{low}", 100_u8.saturating_add(index));
        let namespace = service.namespace().unwrap_or_default();
        let api = Api::<Service>::namespaced(client.clone(), &namespace);
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        let patched =
            api.patch_status(&service.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await;
        if let Err(error) = patched {
            tracing::debug!("no address for service {namespace}/{}: {error}", service.name_any());
        }
    }
}

fn needs_address(service: &Service) -> bool {
    let wanted = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    let has = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .is_some_and(|ingress| !ingress.is_empty());
    wanted && !has && service.metadata.deletion_timestamp.is_none()
}
