//! The built-in `FederatedTypeConfig`s: made when they are missing, for installations that can't carry them (an OLM bundle holds no
//! custom resources). One that exists is the user's and is left as it is.

use fedistio_crds::{FederatedTypeConfig, builtin_types};
use kube::{Api, Client, ResourceExt, api::PostParams};

/// Creates every built-in type config that the host lacks.
pub(crate) async fn ensure_builtin_types(host: &Client) -> Result<(), kube::Error> {
    let api: Api<FederatedTypeConfig> = Api::all(host.clone());
    let existing: Vec<String> =
        api.list(&kube::api::ListParams::default()).await?.items.iter().map(ResourceExt::name_any).collect();
    for config in builtin_types().iter().map(fedistio_crds::BuiltinType::config) {
        if existing.contains(&config.name_any()) {
            continue;
        }
        match api.create(&PostParams::default(), &config).await {
            Ok(_) => tracing::info!(name = %config.name_any(), "made the built-in type config"),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
