use super::*;

fn chart<'a>(origin: Origin<'a>, version: &'a str, objects: &'a [Value]) -> RenderedChart<'a> {
    RenderedChart { origin, version, objects }
}

fn build(charts: &[RenderedChart<'_>]) -> Result<ControlPlane, AssembleError> {
    let parts: Vec<_> = charts
        .iter()
        .map(|chart| chart_manifests(chart, "istio-system", &owner("prod")))
        .collect::<Result<_, _>>()?;
    assemble(parts.iter().map(Vec::as_slice), "istio-system", Some("n1"))
}

fn names(plane: &ControlPlane, wave: usize) -> Vec<String> {
    plane.waves[wave].iter().map(|manifest| manifest.key.to_string()).collect()
}

#[test]
fn waves_put_first_what_others_need() {
    let base = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}}),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "gateways.networking.istio.io"}, "spec": {"group": "networking.istio.io"}}),
        Value::Null,
    ];
    let istiod = [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod-1-29-1", "namespace": "istio-system"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "istiod"}}),
    ];
    let plane =
        build(&[chart(Origin::Base, "1.29.1", &base), chart(Origin::Revision("1-29-1"), "1.29.1", &istiod)])
            .unwrap();
    assert_eq!(
        names(&plane, 0),
        ["Namespace istio-system", "CustomResourceDefinition gateways.networking.istio.io"]
    );
    assert_eq!(names(&plane, 1), ["ClusterRole istiod"]);
    assert_eq!(
        names(&plane, 2),
        ["ServiceAccount istio-system/reader", "Deployment istio-system/istiod-1-29-1"]
    );
    let deployment = &plane.waves[2][1].object;
    assert_eq!(deployment["metadata"]["labels"][LABEL_REVISION], "1-29-1");
    assert_eq!(deployment["metadata"]["labels"][LABEL_VERSION], "1.29.1");
    assert_eq!(deployment["metadata"]["annotations"]["fedistio.io/owner"], "FederatedIstio//prod");
    let crd = &plane.waves[0][1].object;
    assert_eq!(crd["metadata"]["annotations"]["fedistio.io/owner"], "FederatedIstio//*");
    assert_eq!(crd["metadata"]["labels"].get(LABEL_REVISION), None);
    assert_eq!(plane.waves[0][0].object["metadata"]["labels"]["topology.istio.io/network"], "n1");
}

#[test]
fn the_last_chart_wins_where_two_render_the_same_object() {
    let object = |value: &str| {
        [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"from": value}}),
        ]
    };
    let (old, new) = (object("old"), object("new"));
    let plane = build(&[
        chart(Origin::Revision("1-28-2"), "1.28.2", &old),
        chart(Origin::Revision("1-29-1"), "1.29.1", &new),
    ])
    .unwrap();
    assert_eq!(plane.waves[2].len(), 1);
    assert_eq!(plane.waves[2][0].object["data"]["from"], "new");
}

#[test]
fn a_validating_webhook_starts_open_and_is_istiods_afterwards() {
    let object = |client: Value| {
        [json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "v"}, "webhooks": [{"name": "a", "clientConfig": client}]})]
    };
    let open = object(json!({"service": {"name": "istiod"}}));
    let plane = build(&[chart(Origin::Base, "1.29.1", &open)]).unwrap();
    let manifest = &plane.waves[1][0];
    assert_eq!(manifest.object["webhooks"][0]["failurePolicy"], "Ignore");
    assert!(manifest.retain.iter().any(|path| path.to_string() == "/webhooks/*/failurePolicy"));
    let own = object(json!({"caBundle": "Zm9v"}));
    let plane = build(&[chart(Origin::Base, "1.29.1", &own)]).unwrap();
    let manifest = &plane.waves[1][0];
    assert!(manifest.retain.is_empty());
    assert_eq!(manifest.object["webhooks"][0].get("failurePolicy"), None);
}

#[test]
fn what_the_operator_does_not_know_is_refused_by_name() {
    for (object, part) in [
        (json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}), "a v1 Pod (p)"),
        (json!({"apiVersion": "v1", "kind": "ConfigMap"}), "no Kubernetes object"),
        (json!("text"), "no Kubernetes object"),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": "x"}}),
            "metadata.labels",
        ),
    ] {
        let objects = [object];
        let error = build(&[chart(Origin::Revision("1-29-1"), "1.29.1", &objects)]).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("istiod-1.29.1"), "{error}");
    }
}
