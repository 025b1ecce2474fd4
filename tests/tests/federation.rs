//! The federation core on real API servers: one bed, one operator with the permissions of its manifests, scenarios in order.

use anyhow::{Context as _, Result, ensure};
use fedistio_tests::{
    Cluster, Operator, TestBed,
    install::{self, Installation, USER, eventually},
};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

mod common;
use common::{QUIET, SOON, TYPES, api, entry, gone, status_of};

struct World {
    bed: TestBed,
    installation: Installation,
    operator: Option<Operator>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_on_real_clusters() -> Result<()> {
    let bed = TestBed::builder().members(2).build().await?;
    for member in &bed.members {
        install::apply_istio_crds(member, "1.28.2").await?;
    }
    let installation = Installation::install(&bed).await?;
    let operator = installation.start().await?;
    for (member, env) in bed.members.iter().zip(["canary", "prod"]) {
        install::join(&bed, member, &format!("env={env}")).await?;
    }
    let mut world = World { bed, installation, operator: Some(operator) };
    let result = scenarios(&mut world).await;
    if let (Err(_), Some(operator)) = (&result, &world.operator) {
        eprintln!("the operator's log ends with\n{}", operator.log_tail(60));
    }
    result
}

async fn scenarios(world: &mut World) -> Result<()> {
    macro_rules! scenario {
        ($name:ident) => {{
            eprintln!("scenario {}", stringify!($name));
            Box::pin($name(world)).await.context(stringify!($name))?;
        }};
    }
    scenario!(members_become_ready_with_version_region_and_zones);
    scenario!(a_namespace_and_its_objects_reach_every_placed_cluster);
    scenario!(an_override_changes_one_cluster_and_sends_nothing_to_the_others);
    scenario!(drift_is_put_right_and_foreign_fields_stay);
    scenario!(a_deleted_copy_comes_back);
    scenario!(every_builtin_core_kind_is_in_sync);
    scenario!(a_restart_writes_nothing_to_members);
    scenario!(bad_overrides_and_templates_stay_with_their_object_and_cluster);
    scenario!(an_object_that_is_not_ours_is_not_taken_over);
    scenario!(a_type_that_a_member_lacks_is_reported_and_picked_up);
    scenario!(relabelling_a_cluster_moves_copies);
    scenario!(an_unreachable_member_stops_nobody_and_catches_up);
    scenario!(a_copy_leaves_the_ledger_only_when_it_is_gone);
    scenario!(a_broken_secret_stops_only_its_cluster);
    scenario!(taking_a_member_out_releases_its_copies);
    scenario!(two_hundred_objects_come_and_go);
    scenario!(deleting_everything_leaves_no_copy);
    Ok(())
}

const NETWORKING: &str = "networking.istio.io/v1";

fn virtual_services(cluster: &Cluster) -> Api<DynamicObject> {
    api(cluster, NETWORKING, "VirtualService", "bookinfo")
}

fn federated_virtual_services(world: &World) -> Api<DynamicObject> {
    api(&world.bed.host, TYPES, "FederatedVirtualService", "bookinfo")
}

fn federated(kind: &str, name: &str, template: Value, placement: Value, overrides: Value) -> Value {
    let mut object = json!({
        "apiVersion": TYPES, "kind": format!("Federated{kind}"),
        "metadata": {"name": name, "namespace": "bookinfo"},
        "spec": {"template": template, "placement": placement, "overrides": overrides},
    });
    if kind == "Namespace" {
        object["metadata"] = json!({"name": name});
    }
    object
}

fn route(host: &str) -> Value {
    json!({"spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}})
}

async fn wait_status(
    api: &Api<DynamicObject>,
    name: &str,
    what: &str,
    test: impl Fn(&Value) -> bool,
) -> Result<Value> {
    common::wait_status(api, name, what, SOON, test).await
}

fn in_sync(count: i64) -> impl Fn(&Value) -> bool {
    move |status| status["summary"]["inSync"] == count && status["summary"]["clusters"] == count
}

fn cluster_is<'a>(cluster: &'a str, state: &'a str, reason: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |status| entry(status, cluster)["state"] == state && entry(status, cluster)["reason"] == reason
}

async fn members_become_ready_with_version_region_and_zones(world: &mut World) -> Result<()> {
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    for member in &world.bed.members {
        let status = eventually("the member is ready", SOON, || async {
            let status = status_of(&clusters, member.name()).await?;
            let ready =
                status["conditions"][0]["type"] == "Ready" && status["conditions"][0]["status"] == "True";
            ensure!(ready && status["region"].is_string(), "status of {}: {status}", member.name());
            Ok(status)
        })
        .await?;
        assert_eq!(status["kubernetesVersion"], member.version().await?.as_str());
        assert_eq!(status["zones"].as_array().map(Vec::len), Some(2), "{status}");
    }
    let table = install::fedistio_ok(&["clusters", "--kubeconfig", &host_kubeconfig(world)]).await?;
    assert!(table.contains("member1") && table.contains("True"), "{table}");
    Ok(())
}

fn host_kubeconfig(world: &World) -> String {
    world.bed.host.kubeconfig_path().display().to_string()
}

async fn a_namespace_and_its_objects_reach_every_placed_cluster(world: &mut World) -> Result<()> {
    let everywhere = json!({"clusterSelector": {}});
    let template = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    let host = &world.bed.host;
    install::apply(host, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bookinfo"}}))
        .await?;
    // The objects first: they have to wait for their namespace, not fail for good.
    install::apply(
        host,
        federated("VirtualService", "reviews", route("reviews"), everywhere.clone(), json!([])),
    )
    .await?;
    install::apply(host, federated("Namespace", "bookinfo", template, everywhere, json!([]))).await?;
    wait_status(&federated_virtual_services(world), "reviews", "in sync in both", in_sync(2)).await?;
    for member in &world.bed.members {
        let copy = virtual_services(member).get("reviews").await?;
        assert_eq!(copy.data["spec"]["hosts"], json!(["reviews"]));
        let namespace = api(member, "v1", "Namespace", "").get("bookinfo").await?;
        let labels = namespace.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("istio-injection").map(String::as_str), Some("enabled"));
    }
    Ok(())
}

async fn an_override_changes_one_cluster_and_sends_nothing_to_the_others(world: &mut World) -> Result<()> {
    let [first, second] = [&world.bed.members[0], &world.bed.members[1]];
    let mark = first.audit_mark()?;
    let overrides = json!([{"clusterName": "member2",
        "clusterOverrides": [{"op": "replace", "path": "/spec/hosts/0", "value": "reviews.member2.example"}]}]);
    let object =
        federated("VirtualService", "reviews", route("reviews"), json!({"clusterSelector": {}}), overrides);
    install::apply(&world.bed.host, object).await?;
    wait_status(&federated_virtual_services(world), "reviews", "in sync in both", in_sync(2)).await?;
    assert_eq!(
        virtual_services(second).get("reviews").await?.data["spec"]["hosts"],
        json!(["reviews.member2.example"])
    );
    assert_eq!(virtual_services(first).get("reviews").await?.data["spec"]["hosts"], json!(["reviews"]));
    assert_eq!(
        first.audit_writes_since(mark, Some(USER))?,
        [],
        "an override for one cluster wrote to another"
    );
    Ok(())
}

async fn drift_is_put_right_and_foreign_fields_stay(world: &mut World) -> Result<()> {
    let copies = virtual_services(&world.bed.members[0]);
    let edit = json!({"metadata": {"labels": {"team": "blue"}}, "spec": {"hosts": ["hijacked"]}});
    let params = PatchParams { field_manager: Some("somebody".to_owned()), ..PatchParams::default() };
    copies.patch("reviews", &params, &Patch::Merge(&edit)).await?;
    eventually("the edit is put right", SOON, || async {
        let copy = copies.get("reviews").await?;
        ensure!(copy.data["spec"]["hosts"] == json!(["reviews"]), "{}", copy.data["spec"]);
        let labels = copy.metadata.labels.unwrap_or_default();
        ensure!(
            labels.get("team").map(String::as_str) == Some("blue"),
            "a label that is not ours was removed"
        );
        Ok(())
    })
    .await?;
    // Removing a field that we own is drift as well.
    copies.patch("reviews", &params, &Patch::Merge(json!({"spec": {"http": null}}))).await?;
    eventually("the removed field is back", SOON, || async {
        let copy = copies.get("reviews").await?;
        ensure!(copy.data["spec"]["http"].is_array(), "{}", copy.data["spec"]);
        Ok(())
    })
    .await
}

async fn a_deleted_copy_comes_back(world: &mut World) -> Result<()> {
    let copies = virtual_services(&world.bed.members[1]);
    copies.delete("reviews", &DeleteParams::default()).await?;
    eventually("the copy is back", SOON, || async { Ok(copies.get("reviews").await.map(drop)?) }).await
}

async fn every_builtin_core_kind_is_in_sync(world: &mut World) -> Result<()> {
    let everywhere = json!({"clusterSelector": {}});
    let labels = json!({"app": "web"});
    let container =
        json!({"name": "web", "image": "docker.io/library/web:1", "ports": [{"containerPort": 8080}]});
    let objects = [
        ("v1", "ServiceAccount", json!({})),
        ("v1", "ConfigMap", json!({"data": {"a": "1"}})),
        ("v1", "Secret", json!({"stringData": {"password": "x"}})),
        ("v1", "Service", json!({"spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}})),
        (
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"serviceAccountName": "web", "containers": [container]}}}}),
        ),
        (
            NETWORKING,
            "DestinationRule",
            json!({"spec": {"host": "web", "subsets": [{"name": "v1", "labels": {"version": "v1"}}]}}),
        ),
        (
            NETWORKING,
            "Gateway",
            json!({"spec": {"selector": {"istio": "ingressgateway"},
            "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}),
        ),
        ("security.istio.io/v1", "AuthorizationPolicy", json!({"spec": {"action": "ALLOW", "rules": [{}]}})),
        ("security.istio.io/v1", "PeerAuthentication", json!({"spec": {"mtls": {"mode": "STRICT"}}})),
    ];
    for (_, kind, template) in &objects {
        let object = federated(kind, "web", template.clone(), everywhere.clone(), json!([]));
        install::apply(&world.bed.host, object).await?;
    }
    for (api_version, kind, _) in &objects {
        let kind_federated = format!("Federated{kind}");
        let federated = api(&world.bed.host, TYPES, &kind_federated, "bookinfo");
        wait_status(&federated, "web", &kind_federated, in_sync(2)).await?;
        for member in &world.bed.members {
            api(member, api_version, kind, "bookinfo")
                .get("web")
                .await
                .with_context(|| format!("{kind} in {}", member.name()))?;
        }
    }
    Ok(())
}

async fn a_restart_writes_nothing_to_members(world: &mut World) -> Result<()> {
    // Whatever is still on its way from the scenarios before has to be done.
    tokio::time::sleep(QUIET).await;
    let marks: Vec<_> = world.bed.members.iter().map(Cluster::audit_mark).collect::<Result<_>>()?;
    if let Some(operator) = world.operator.take() {
        operator.stop().await?;
    }
    world.operator = Some(world.installation.start().await?);
    // A change after the restart shows that the operator is at work, so that silence is not just absence.
    let probe = federated(
        "ConfigMap",
        "after-restart",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    install::apply(&world.bed.host, probe).await?;
    let federated_maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&federated_maps, "after-restart", "in sync after the restart", in_sync(2)).await?;
    tokio::time::sleep(QUIET).await;
    for (member, mark) in world.bed.members.iter().zip(marks) {
        let writes = member.audit_writes_since(mark, Some(USER))?;
        let others: Vec<_> = writes.iter().filter(|write| write.name != "after-restart").collect();
        assert!(others.is_empty(), "writes to {} by a restart: {others:?}", member.name());
        assert_eq!(writes.len(), 1, "one write makes one copy: {writes:?}");
    }
    Ok(())
}

async fn bad_overrides_and_templates_stay_with_their_object_and_cluster(world: &mut World) -> Result<()> {
    let everywhere = json!({"clusterSelector": {}});
    let overrides =
        json!([{"clusterName": "member1", "clusterOverrides": [{"path": "/spec/none/0", "value": 1}]}]);
    let host = &world.bed.host;
    install::apply(
        host,
        federated("VirtualService", "bad-override", route("a"), everywhere.clone(), overrides),
    )
    .await?;
    let wrong_kind = json!({"apiVersion": "v1", "kind": "ConfigMap"});
    install::apply(
        host,
        federated("VirtualService", "wrong-kind", wrong_kind, everywhere.clone(), json!([])),
    )
    .await?;
    let unknown_field = json!({"spec": {"hosts": ["a"], "htpp": []}});
    install::apply(
        host,
        federated("VirtualService", "unknown-field", unknown_field, everywhere.clone(), json!([])),
    )
    .await?;

    let federated_services = federated_virtual_services(world);
    let status = wait_status(&federated_services, "bad-override", "one cluster failed", |status| {
        cluster_is("member1", "Failed", "OverrideFailed")(status)
            && cluster_is("member2", "InSync", "Applied")(status)
    })
    .await?;
    let message = entry(&status, "member1")["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("overrides[0].clusterOverrides[0]") && message.contains("/spec/none/0"),
        "{message}"
    );

    let status = wait_status(
        &federated_services,
        "wrong-kind",
        "refused",
        cluster_is("member1", "Failed", "TemplateInvalid"),
    )
    .await?;
    let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("v1 ConfigMap") && message.contains("VirtualService"), "{message}");

    let status = wait_status(
        &federated_services,
        "unknown-field",
        "refused",
        cluster_is("member1", "Failed", "Invalid"),
    )
    .await?;
    let message = status["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("htpp"), "{message}");

    // Malformed specs are refused by the CRD itself.
    let both = json!([{"clusterName": "a", "clusterSelector": {}, "clusterOverrides": []}]);
    let error =
        install::apply(host, federated("VirtualService", "refused", route("a"), everywhere, both)).await;
    let message =
        format!("{:#}", error.err().context("clusterName and clusterSelector were taken together")?);
    assert!(message.contains("either clusterName or clusterSelector"), "{message}");
    for name in ["bad-override", "wrong-kind", "unknown-field"] {
        federated_services.delete(name, &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn an_object_that_is_not_ours_is_not_taken_over(world: &mut World) -> Result<()> {
    let member = &world.bed.members[0];
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": "bookinfo"},
        "data": {"owner": "them"}});
    let theirs = install::apply(member, theirs).await?;
    let ours = federated(
        "ConfigMap",
        "theirs",
        json!({"data": {"owner": "us"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    install::apply(&world.bed.host, ours).await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    let status = wait_status(&maps, "theirs", "a conflict", |status| {
        cluster_is("member1", "Failed", "Conflict")(status)
            && cluster_is("member2", "InSync", "Applied")(status)
    })
    .await?;
    let message = entry(&status, "member1")["message"].as_str().unwrap_or_default();
    assert!(message.contains("fedistio-tests") && message.contains("owner"), "{message}");
    maps.delete("theirs", &DeleteParams::default()).await?;
    eventually("the federated object is gone", SOON, || gone(&maps, "theirs")).await?;
    let copy = api(member, "v1", "ConfigMap", "bookinfo")
        .get("theirs")
        .await
        .context("an object that is not ours was deleted")?;
    assert_eq!(copy.data["data"]["owner"], "them");
    install::delete(member, &theirs).await
}

async fn a_type_that_a_member_lacks_is_reported_and_picked_up(world: &mut World) -> Result<()> {
    let member = &world.bed.members[1];
    let crds = api(member, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
    let name = "sidecars.networking.istio.io";
    crds.delete(name, &DeleteParams::default()).await?;
    eventually("the CRD is gone", SOON, || gone(&crds, name)).await?;
    let template = json!({"spec": {"egress": [{"hosts": ["./*"]}]}});
    install::apply(
        &world.bed.host,
        federated("Sidecar", "default", template, json!({"clusterSelector": {}}), json!([])),
    )
    .await?;
    let sidecars = api(&world.bed.host, TYPES, "FederatedSidecar", "bookinfo");
    wait_status(&sidecars, "default", "one member lacks the type", |status| {
        cluster_is("member1", "InSync", "Applied")(status)
            && cluster_is("member2", "Failed", "TypeNotServed")(status)
    })
    .await?;
    install::apply_istio_crds(member, "1.28.2").await?;
    wait_status(&sidecars, "default", "picked up once the type is served", in_sync(2)).await?;
    sidecars.delete("default", &DeleteParams::default()).await?;
    eventually("the federated Sidecar is gone", SOON, || gone(&sidecars, "default")).await
}

async fn relabelling_a_cluster_moves_copies(world: &mut World) -> Result<()> {
    let canary = json!({"clusterSelector": {"matchLabels": {"env": "canary"}}});
    install::apply(
        &world.bed.host,
        federated("ConfigMap", "moving", json!({"data": {"a": "1"}}), canary, json!([])),
    )
    .await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&maps, "moving", "in the canary only", in_sync(1)).await?;
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    let label = |env: &str| Patch::Merge(json!({"metadata": {"labels": {"env": env}}}));
    clusters.patch("member1", &PatchParams::default(), &label("prod")).await?;
    clusters.patch("member2", &PatchParams::default(), &label("canary")).await?;
    wait_status(&maps, "moving", "moved", |status| {
        cluster_is("member2", "InSync", "Applied")(status) && entry(status, "member1").is_null()
    })
    .await?;
    gone(&api(&world.bed.members[0], "v1", "ConfigMap", "bookinfo"), "moving").await?;
    clusters.patch("member1", &PatchParams::default(), &label("canary")).await?;
    clusters.patch("member2", &PatchParams::default(), &label("prod")).await?;
    wait_status(&maps, "moving", "moved back", cluster_is("member1", "InSync", "Applied")).await?;
    maps.delete("moving", &DeleteParams::default()).await?;
    Ok(())
}

async fn an_unreachable_member_stops_nobody_and_catches_up(world: &mut World) -> Result<()> {
    let [first, second] = [&world.bed.members[0], &world.bed.members[1]];
    first.pause().await?;
    let change = |host: &str| {
        federated("VirtualService", "reviews", route(host), json!({"clusterSelector": {}}), json!([]))
    };
    install::apply(&world.bed.host, change("one")).await?;
    eventually("the other member is changed", SOON, || async {
        let copy = virtual_services(second).get("reviews").await?;
        ensure!(copy.data["spec"]["hosts"] == json!(["one"]), "{}", copy.data["spec"]);
        Ok(())
    })
    .await?;
    wait_status(&federated_virtual_services(world), "reviews", "the hung member is reported", |status| {
        cluster_is("member1", "Pending", "ClusterNotReady")(status)
            && cluster_is("member2", "InSync", "Applied")(status)
    })
    .await?;
    install::apply(&world.bed.host, change("two")).await?;
    first.resume().await?;
    wait_status(&federated_virtual_services(world), "reviews", "caught up", in_sync(2)).await?;
    assert_eq!(virtual_services(first).get("reviews").await?.data["spec"]["hosts"], json!(["two"]));
    Ok(())
}

async fn a_copy_leaves_the_ledger_only_when_it_is_gone(world: &mut World) -> Result<()> {
    let first = &world.bed.members[0];
    let object = |placement: Value| {
        federated("ConfigMap", "ledger", json!({"data": {"a": "1"}}), placement, json!([]))
    };
    install::apply(&world.bed.host, object(json!({"clusterSelector": {}}))).await?;
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    wait_status(&maps, "ledger", "in both", in_sync(2)).await?;
    first.stop().await?;
    install::apply(&world.bed.host, object(json!({"clusters": [{"name": "member2"}]}))).await?;
    wait_status(&maps, "ledger", "the unreachable copy stays in the ledger", |status| {
        entry(status, "member1")["state"] == "Removing" && entry(status, "member2")["state"] == "InSync"
    })
    .await?;
    // Placement removed while the member is away, then the object deleted: the copy must not leak.
    maps.delete("ledger", &DeleteParams::default()).await?;
    tokio::time::sleep(QUIET).await;
    ensure!(maps.get_opt("ledger").await?.is_some(), "the object went while a copy may still be there");
    first.start().await?;
    eventually("the federated object is gone", SOON, || gone(&maps, "ledger")).await?;
    gone(&api(first, "v1", "ConfigMap", "bookinfo"), "ledger").await
}

async fn a_broken_secret_stops_only_its_cluster(world: &mut World) -> Result<()> {
    let host = &world.bed.host;
    let broken = |name: &str, text: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-kubeconfig"), "namespace": install::NAMESPACE},
            "stringData": {"kubeconfig": text}})
    };
    let exec = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n\
        contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}}]\n";
    let member = |name: &str| {
        json!({"apiVersion": "fedistio.io/v1alpha1", "kind": "MemberCluster", "metadata": {"name": name, "labels": {"env": "broken"}},
            "spec": {"access": {"kubeconfig": {"secretRef": {"name": format!("{name}-kubeconfig")}}}}})
    };
    for (name, text, reason) in [
        ("broken", "not: [yaml", "KubeconfigInvalid"),
        ("sneaky", exec, "KubeconfigNotAllowed"),
        ("missing", "", "SecretUnavailable"),
    ] {
        if !text.is_empty() {
            install::apply(host, broken(name, text)).await?;
        }
        let applied = install::apply(host, member(name)).await?;
        let clusters = api(host, "fedistio.io/v1alpha1", "MemberCluster", "");
        eventually("the reason is in its status", SOON, || async {
            let status = status_of(&clusters, name).await?;
            ensure!(status["conditions"][0]["reason"] == reason, "{status}");
            Ok(())
        })
        .await?;
        install::delete(host, &applied).await?;
    }
    let probe =
        federated("ConfigMap", "goes-on", json!({"data": {}}), json!({"clusterSelector": {}}), json!([]));
    install::apply(host, probe).await?;
    wait_status(&api(host, TYPES, "FederatedConfigMap", "bookinfo"), "goes-on", "others go on", in_sync(2))
        .await?;
    Ok(())
}

async fn taking_a_member_out_releases_its_copies(world: &mut World) -> Result<()> {
    let second = &world.bed.members[1];
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    let everywhere = federated(
        "ConfigMap",
        "kept",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {}}),
        json!([]),
    );
    install::apply(&world.bed.host, everywhere).await?;
    wait_status(&maps, "kept", "in both", in_sync(2)).await?;
    install::fedistio_ok(&["unjoin", "member2", "--force", "--kubeconfig", &host_kubeconfig(world)]).await?;
    wait_status(&maps, "kept", "the member is no longer listed", |status| {
        entry(status, "member2").is_null() && entry(status, "member1")["state"] == "InSync"
    })
    .await?;
    let copy = api(second, "v1", "ConfigMap", "bookinfo")
        .get("kept")
        .await
        .context("a released copy was deleted")?;
    assert_eq!(copy.data["data"]["a"], "1");
    install::join(&world.bed, second, "env=prod").await?;
    wait_status(&maps, "kept", "taken in again", in_sync(2)).await?;
    // A placement that selects nobody leaves an empty list, not the last one.
    clusters_label(world, "member1", "nobody").await?;
    let narrow = federated(
        "ConfigMap",
        "kept",
        json!({"data": {"a": "1"}}),
        json!({"clusterSelector": {"matchLabels": {"env": "canary"}}}),
        json!([]),
    );
    install::apply(&world.bed.host, narrow).await?;
    wait_status(&maps, "kept", "nobody is listed", |status| {
        status["summary"]["clusters"] == 0 && status["clusters"].as_array().is_none_or(Vec::is_empty)
    })
    .await?;
    clusters_label(world, "member1", "canary").await
}

async fn two_hundred_objects_come_and_go(world: &mut World) -> Result<()> {
    let maps = api(&world.bed.host, TYPES, "FederatedConfigMap", "bookinfo");
    for number in 0..200 {
        let name = format!("many-{number}");
        let map = federated(
            "ConfigMap",
            &name,
            json!({"data": {"a": "1"}}),
            json!({"clusterSelector": {}}),
            json!([]),
        );
        let map = serde_json::from_value(map)?;
        maps.create(&kube::api::PostParams::default(), &map).await?;
    }
    // Deleted while the last statuses are being written: finalizers and statuses must not get into each other's way.
    maps.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await?;
    eventually("all are gone", SOON, || async {
        let left = maps.list_metadata(&kube::api::ListParams::default()).await?.items.len();
        ensure!(left == 0, "{left} left");
        Ok(())
    })
    .await?;
    for member in &world.bed.members {
        let copies = api(member, "v1", "ConfigMap", "bookinfo");
        let left = copies
            .list_metadata(&kube::api::ListParams::default().labels("fedistio.io/managed=true"))
            .await?
            .items;
        ensure!(left.is_empty(), "{} copies left in {}", left.len(), member.name());
    }
    Ok(())
}

async fn clusters_label(world: &World, cluster: &str, env: &str) -> Result<()> {
    let clusters = api(&world.bed.host, "fedistio.io/v1alpha1", "MemberCluster", "");
    let patch = Patch::Merge(json!({"metadata": {"labels": {"env": env}}}));
    clusters.patch(cluster, &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn deleting_everything_leaves_no_copy(world: &mut World) -> Result<()> {
    let kinds = [
        "VirtualService",
        "DestinationRule",
        "Gateway",
        "AuthorizationPolicy",
        "PeerAuthentication",
        "Deployment",
        "Service",
        "ServiceAccount",
        "ConfigMap",
        "Secret",
    ];
    for kind in kinds {
        let objects = api(&world.bed.host, TYPES, &format!("Federated{kind}"), "bookinfo");
        objects.delete_collection(&DeleteParams::default(), &kube::api::ListParams::default()).await?;
        eventually(&format!("every Federated{kind} is gone"), SOON, || async {
            let left = objects.list_metadata(&kube::api::ListParams::default()).await?.items.len();
            ensure!(left == 0, "{left} left");
            Ok(())
        })
        .await?;
    }
    for member in &world.bed.members {
        let left = virtual_services(member).list(&kube::api::ListParams::default()).await?.items;
        assert!(left.is_empty(), "left in {}: {left:?}", member.name());
    }
    Ok(())
}
