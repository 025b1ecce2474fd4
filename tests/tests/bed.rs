//! The test bed itself: one bed with one member, walked through in order because it takes a while to start.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fedistio_tests::{Cluster, Fault, PodProcess, Route, TestBed};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

const VERSION: &str = "1.28.2";
const REVISION: &str = "1-28-2";

/// Asks until the answer is `Ok(Some(_))`, for a minute at most.
async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let started = Instant::now();
    let mut last = None;
    while started.elapsed() < Duration::from_mins(1) {
        match ask().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(last
        .unwrap_or_else(|| anyhow::anyhow!("nothing happened"))
        .context(format!("waited a minute for {what}")))
}

fn is(pod: &Pod, condition: &str) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == condition && c.status == "True")
}

async fn pods(member: &Cluster, namespace: &str, labels: &str) -> Result<Vec<Pod>> {
    let api = Api::<Pod>::namespaced(member.client(), namespace);
    Ok(api.list(&ListParams::default().labels(labels)).await?.items)
}

fn deployment(name: &str, image: &str, replicas: i32) -> Result<Deployment> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}}}
    }))?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bed_is_what_it_says() -> Result<()> {
    let bed = TestBed::builder().members(1).istio([VERSION]).build().await?;
    let member = bed.member("member1")?;
    ensure!(bed.member("nobody").is_err());
    nodes_and_pods(member).await.context("nodes and pods")?;
    audit_and_metrics(member).await.context("audit and metrics")?;
    held_pods(member).await.context("pods that are held back")?;
    faults(member).await.context("faults")?;
    faults_of_requests(member).await.context("faults of requests")?;
    registry(&bed).await.context("registry")?;
    istio(&bed, member).await.context("istio")?;
    own_clusters(&bed).await.context("clusters of the user")?;
    let pids: Vec<u32> = member.pids().await.into_iter().chain(bed.etcd_pid()).collect();
    ensure!(pids.len() == 3, "an API server, a controller manager and etcd: {pids:?}");
    let dir = bed.dir().to_path_buf();
    bed.shutdown().await;
    for pid in pids {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        ensure!(state.is_empty() || state.contains(") Z "), "process {pid} is still there: {state}");
    }
    ensure!(!dir.exists(), "its folder is gone");
    Ok(())
}

async fn nodes_and_pods(member: &Cluster) -> Result<()> {
    ensure!(member.version().await? == fedistio_tests::binaries::DEFAULT_KUBERNETES);
    let nodes = Api::<Node>::all(member.client()).list(&ListParams::default()).await?;
    ensure!(nodes.items.len() == 2);
    let zones: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node.labels().get("topology.kubernetes.io/zone"), node.name_any()))
        .collect();
    ensure!(zones.len() == 2 && !zones.contains_key(&None), "each node has a zone of its own: {zones:?}");
    ensure!(nodes.iter().all(|node| node.spec.as_ref().is_none_or(|spec| spec.taints.is_none())));

    let deployments = Api::<Deployment>::namespaced(member.client(), "default");
    deployments.create(&PostParams::default(), &deployment("web", "nginx", 3)?).await?;
    eventually("three ready pods", || async {
        let status = deployments.get("web").await?.status.unwrap_or_default();
        Ok((status.ready_replicas == Some(3)).then_some(()))
    })
    .await?;
    let nodes: Vec<_> = pods(member, "default", "app=web")
        .await?
        .iter()
        .filter_map(|pod| pod.spec.clone()?.node_name)
        .collect();
    ensure!(nodes.iter().any(|node| *node != nodes[0]), "pods spread over nodes: {nodes:?}");

    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "once"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}}}
    }))?;
    let jobs = Api::<Job>::namespaced(member.client(), "default");
    jobs.create(&PostParams::default(), &job).await?;
    eventually("the job", || async {
        Ok((jobs.get("once").await?.status.unwrap_or_default().succeeded == Some(1)).then_some(()))
    })
    .await?;

    let services = Api::<Service>::namespaced(member.client(), "default");
    let service = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
    let ip = eventually("the load balancer", || async {
        let status = services.get("web").await?.status.and_then(|status| status.load_balancer?.ingress);
        Ok(status.and_then(|ingress| ingress.first()?.ip.clone()))
    })
    .await?;
    ensure!(ip.starts_with("127."), "an address of loopback's network: {ip}");

    deployments.delete("web", &DeleteParams::background()).await?;
    eventually("the pods' end", || async {
        Ok(pods(member, "default", "app=web").await?.is_empty().then_some(()))
    })
    .await
}

async fn audit_and_metrics(member: &Cluster) -> Result<()> {
    let user = "system:serviceaccount:tools:writer";
    let client = member.client_as_service_account("tools", "writer").await?;
    let (mark, before) = (member.audit_mark()?, member.write_requests().await?);
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "m"}}))?;
    let refused = Api::<ConfigMap>::namespaced(client, "tools").create(&PostParams::default(), &map).await;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403),
        "no permission yet: {refused:?}"
    );
    Api::<ConfigMap>::namespaced(member.client(), "tools").create(&PostParams::default(), &map).await?;
    let writes = member.audit_writes_since(mark, Some(user))?;
    ensure!(writes.len() == 1, "exactly its one write: {writes:?}");
    ensure!(
        writes[0].verb == "create" && writes[0].resource == "configmaps" && writes[0].code == 403,
        "{writes:?}"
    );
    let ours = member.audit_writes_since(mark, Some("testbed-admin"))?;
    ensure!(ours.len() == 1 && ours[0].code == 201, "{ours:?}");
    let added = member.write_requests().await?.since(&before);
    ensure!(
        added.counts.get(&("POST".into(), "configmaps".into())).is_some_and(|count| *count == 1),
        "{added:?}"
    );
    ensure!(member.audit_writes_since(member.audit_mark()?, Some(user))?.is_empty());
    Ok(())
}

async fn held_pods(member: &Cluster) -> Result<()> {
    member.runner()?.hold_ready("held:1");
    let deployments = Api::<Deployment>::namespaced(member.client(), "default");
    deployments.create(&PostParams::default(), &deployment("held", "example/held:1", 1)?).await?;
    let running = || async {
        let pods = pods(member, "default", "app=held").await?;
        Ok(pods
            .into_iter()
            .find(|pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running")))
    };
    let pod = eventually("the pod", running).await?;
    ensure!(!is(&pod, "Ready"), "it runs and is not ready");
    member.runner()?.release("held:1");
    eventually("its readiness", || async { Ok(running().await?.filter(|pod| is(pod, "Ready"))) }).await?;
    deployments.delete("held", &DeleteParams::background()).await?;

    deployments
        .create(&PostParams::default(), &deployment("unknown", "docker.io/istio/pilot:0.0.1", 1)?)
        .await?;
    let waiting = eventually("the reason", || async {
        let pods = pods(member, "default", "app=unknown").await?;
        let status = pods.first().and_then(|pod| pod.status.clone()?.container_statuses?.first().cloned());
        Ok(status.and_then(|status| status.state?.waiting))
    })
    .await?;
    ensure!(waiting.reason.as_deref() == Some("ImagePullBackOff"), "{waiting:?}");
    ensure!(waiting.message.unwrap_or_default().contains("testbed build --istio 0.0.1"));
    deployments.delete("unknown", &DeleteParams::background()).await?;
    Ok(())
}

async fn faults(member: &Cluster) -> Result<()> {
    let text = member.kubeconfig_by(Route::Proxy);
    ensure!(text.contains(&member.proxy()?.url()));
    let slow = fedistio_tests::cluster::kubeconfig::client(&text).await?;
    let namespaces = Api::<Namespace>::all(slow.clone());
    let timed = || async {
        let started = Instant::now();
        tokio::time::timeout(Duration::from_secs(2), namespaces.get("default")).await??;
        Ok::<_, anyhow::Error>(started.elapsed())
    };
    timed().await?;
    member.proxy()?.set(Fault::Delay(Duration::from_millis(150)));
    let late = timed().await?;
    ensure!(late >= Duration::from_millis(300), "both ways are late: {late:?}");
    member.proxy()?.set(Fault::Refuse);
    ensure!(timed().await.is_err(), "refused");
    member.proxy()?.set(Fault::None);
    timed().await?;

    let direct = Api::<Namespace>::all(member.client());
    member.pause().await?;
    let hung = tokio::time::timeout(Duration::from_millis(500), direct.get("default")).await;
    ensure!(hung.is_err(), "a paused server does not answer");
    member.resume().await?;
    direct.get("default").await?;

    // Without permission, so the server's own answer is 403.
    let by_http = member.service_account_kubeconfig("requests", "nobody", Route::Http).await?;
    let by_http = Api::<Namespace>::all(client_without_retries(&by_http).await?);
    let answers =
        async || matches!(by_http.get("default").await, Err(kube::Error::Api(status)) if status.code == 403);
    ensure!(answers().await);
    member.stop().await?;
    ensure!(direct.get("default").await.is_err(), "a stopped server refuses");
    ensure!(!answers().await, "requests have nowhere to go");
    ensure!(member.pause().await.is_err());
    member.start().await?;
    member.set_version(fedistio_tests::binaries::DEFAULT_KUBERNETES).await?;
    ensure!(member.set_version("1.34").await.is_err(), "not a version");
    direct.get("default").await?;
    ensure!(answers().await, "requests pass to the new server");
    let deployments = Api::<Deployment>::namespaced(member.client(), "default");
    deployments.create(&PostParams::default(), &deployment("after", "nginx", 1)?).await?;
    eventually("a pod after the restart", || async {
        Ok((deployments.get("after").await?.status.unwrap_or_default().ready_replicas == Some(1))
            .then_some(()))
    })
    .await
}

/// A client that tells what it sees: the usual one tries again by itself after 429 and 503.
async fn client_without_retries(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn faults_of_requests(member: &Cluster) -> Result<()> {
    let proxy = member.proxy()?;
    let user = "system:serviceaccount:requests:tester";
    let text = member.service_account_kubeconfig("requests", "tester", Route::Http).await?;
    ensure!(text.contains(&proxy.http_url()) && !text.contains(&proxy.url()));
    let binding = json!({"metadata": {"name": "requests-tester"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "requests", "name": "tester"}]});
    let bindings = Api::<ClusterRoleBinding>::all(member.client());
    bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
    let client = client_without_retries(&text).await?;
    let maps = Api::<ConfigMap>::namespaced(client.clone(), "requests");
    let map = |name: &str| serde_json::from_value::<ConfigMap>(json!({"metadata": {"name": name}}));
    let create = async |name: &str| anyhow::Ok(maps.create(&PostParams::default(), &map(name)?).await);
    let code = |error: kube::Error| if let kube::Error::Api(status) = error { status.code } else { 0 };

    let mark = member.audit_mark()?;
    eventually("the permission", || async { Ok(create("a").await?.ok()) }).await?;
    let writes = member.audit_writes_since(mark, Some(user))?;
    ensure!(writes.iter().any(|write| write.code == 201), "the token has passed: {writes:?}");
    let admin = client_without_retries(&member.kubeconfig_by(Route::Http)).await?;
    let refused = Api::<Namespace>::all(admin).get("default").await.map_err(code);
    ensure!(refused.as_ref().err() == Some(&401), "a client certificate does not pass: {refused:?}");

    let version = maps.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut watch = maps.watch(&WatchParams::default(), &version).await?.boxed();
    let (mark, injected) = (member.audit_mark()?, proxy.injected());
    let retry_after = Some(Duration::from_secs(2));
    proxy.set(Fault::Answer { status: 429, every: 1, only_writes: true, retry_after });
    let refused = create("b").await?;
    ensure!(
        matches!(&refused, Err(kube::Error::Api(status)) if status.code == 429 && status.reason == "TooManyRequests"
            && status.details.as_ref().is_some_and(|details| details.retry_after_seconds == 2)),
        "{refused:?}"
    );
    let request = hyper::Request::delete("/api/v1/namespaces/requests/configmaps/a").body(Vec::new())?;
    let answer = client.send(request.map(Into::into)).await?;
    ensure!(
        answer.status() == 429 && answer.headers().get("retry-after").is_some_and(|value| value == "2"),
        "{answer:?}"
    );
    maps.get("a").await.context("reads pass")?;
    ensure!(member.audit_writes_since(mark, Some(user))?.is_empty(), "nothing has reached the server");
    ensure!(proxy.injected() == injected + 2);
    let by_bytes = fedistio_tests::cluster::kubeconfig::client(&member.kubeconfig_by(Route::Proxy)).await?;
    let by_bytes = Api::<ConfigMap>::namespaced(by_bytes, "requests");
    by_bytes.create(&PostParams::default(), &map("c")?).await.context("the other route passes")?;

    let event = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.context("no event")?;
    ensure!(
        matches!(&event, Some(Ok(WatchEvent::Added(added))) if added.name_any() == "c"),
        "an open watch goes on: {event:?}"
    );

    for status in [409, 410, 500, 503] {
        proxy.set(Fault::Answer { status, every: 2, only_writes: false, retry_after: None });
        for expected in [None, Some(status), None, Some(status)] {
            let seen = maps.get("a").await.map_err(code).err();
            ensure!(seen == expected, "{seen:?} instead of {expected:?}");
        }
    }

    // Long enough for the head of a watch's event and too short for the whole of it.
    proxy.set(Fault::CutBody { after: 60, every: 1 });
    let cut = maps.get("a").await;
    ensure!(cut.is_err() && !matches!(cut, Err(kube::Error::Api(_))), "not the server's error: {cut:?}");
    let mut short = maps.watch(&WatchParams::default(), &version).await?.boxed();
    let event = tokio::time::timeout(Duration::from_secs(10), short.next()).await.context("not cut")?;
    ensure!(!matches!(event, Some(Ok(_))), "half an event: {event:?}");

    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let started = Instant::now();
    maps.get("a").await?;
    ensure!(started.elapsed() >= Duration::from_millis(200), "late both ways: {:?}", started.elapsed());
    proxy.set(Fault::Refuse);
    ensure!(maps.get("a").await.is_err(), "refused");
    let ended = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.context("still open")?;
    ensure!(!matches!(ended, Some(Ok(_))), "the watch is cut too: {ended:?}");
    let injected = proxy.injected();
    proxy.set(Fault::None);
    create("d").await??;
    for _ in 0..3 {
        maps.get("d").await.context("back to normal")?;
    }
    ensure!(proxy.injected() == injected);
    bindings.delete("requests-tester", &DeleteParams::default()).await?;
    Ok(())
}

/// The bed's clusters, used as if they were somebody's own.
async fn own_clusters(bed: &TestBed) -> Result<()> {
    let mut merged = Kubeconfig::default();
    for cluster in bed.clusters() {
        merged = merged.merge(Kubeconfig::from_yaml(cluster.kubeconfig())?)?;
    }
    let path = bed.dir().join("merged.kubeconfig");
    std::fs::write(&path, serde_saphyr::to_string(&merged)?)?;
    ensure!(TestBed::external(&path, Some("nobody"), &[]).await.is_err());
    ensure!(
        TestBed::external(bed.host.kubeconfig_path(), None, &[]).await.is_err(),
        "a host without members"
    );
    ensure!(TestBed::external(&bed.dir().join("none"), None, &[]).await.is_err());
    let own = TestBed::external(&path, Some("member1"), &[]).await?;
    ensure!(own.host.name() == "member1" && own.members.len() == 1 && own.members[0].name() == "host");
    ensure!(own.host.version().await? == bed.host.version().await?);
    ensure!(own.host.ca() == bed.member("member1")?.ca());
    let text = own.host.service_account_kubeconfig("tools", "reader", Route::Proxy).await?;
    ensure!(text.contains(bed.member("member1")?.server()), "there is no proxy before it");
    let refused = own.host.stop().await.err().context("stopped")?.to_string();
    ensure!(refused.contains("your own cluster"), "{refused}");
    Ok(())
}

async fn run(program: &Path, args: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(program).args(args).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// The registry is right when helm itself is content with it.
async fn registry(bed: &TestBed) -> Result<()> {
    let helm = fedistio_tests::Binaries::user()?.helm().await?;
    let oci = format!("{}/istiod", bed.registry.oci_url());
    let from_oci = run(&helm, &["template", "i", &oci, "--version", VERSION, "--plain-http"]).await?;
    let from_index = run(
        &helm,
        &["template", "i", "istiod", "--repo", &bed.registry.repository_url(), "--version", VERSION],
    )
    .await?;
    ensure!(from_oci == from_index, "both ways serve the same chart");
    ensure!(
        from_oci.contains(&format!("image: \"docker.io/istio/pilot:{VERSION}\"")),
        "hub and tag are those of a release"
    );
    ensure!(run(&helm, &["template", "i", &oci, "--version", "9.9.9", "--plain-http"]).await.is_err());
    bed.registry.set_down(true);
    ensure!(run(&helm, &["template", "i", &oci, "--version", VERSION, "--plain-http"]).await.is_err());
    bed.registry.set_down(false);
    ensure!(bed.registry.requests() > 0 && bed.registry.manifest_digest("istiod", VERSION).is_some());
    Ok(())
}

fn dynamic(api_version: &str, kind: &str, plural: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: api_version.into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// Applies rendered YAML with server-side apply, in the order given.
async fn apply(member: &Cluster, text: &str) -> Result<usize> {
    let discovery = kube::Discovery::new(member.client()).run().await?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
    let mut applied = 0;
    for object in objects.into_iter().filter(|object| !object.is_null()) {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.clone().context("an object without kind")?;
        let gvk = kube::core::GroupVersionKind::try_from(&types)?;
        let (resource, capabilities) = discovery.resolve_gvk(&gvk).with_context(|| format!("no {gvk:?}"))?;
        let api: Api<DynamicObject> = match (&capabilities.scope, object.namespace()) {
            (kube::discovery::Scope::Namespaced, namespace) => {
                Api::namespaced_with(member.client(), namespace.as_deref().unwrap_or("default"), &resource)
            }
            _ => Api::all_with(member.client(), &resource),
        };
        api.patch(&object.name_any(), &PatchParams::apply("test").force(), &Patch::Apply(&object)).await?;
        applied += 1;
    }
    Ok(applied)
}

/// A real istiod of the charts: ready, refusing bad resources, injecting sidecars, started again when it ends.
async fn istio(bed: &TestBed, member: &Cluster) -> Result<()> {
    let helm = fedistio_tests::Binaries::user()?.helm().await?;
    let namespace = json!({"metadata": {"name": "istio-system"}});
    Api::<Namespace>::all(member.client())
        .create(&PostParams::default(), &serde_json::from_value(namespace)?)
        .await?;
    for chart in ["base", "istiod"] {
        let oci = format!("{}/{chart}", bed.registry.oci_url());
        let revision = format!("revision={REVISION}");
        let set =
            if chart == "istiod" { ["--set", revision.as_str()] } else { ["--set", "defaultRevision="] };
        let args = [
            "template",
            chart,
            &oci,
            "--version",
            VERSION,
            "--plain-http",
            "--namespace",
            "istio-system",
            set[0],
            set[1],
        ];
        apply(member, &run(&helm, &args).await?).await.with_context(|| format!("chart {chart}"))?;
    }
    let ready = || async {
        let pods = pods(member, "istio-system", "app=istiod").await?;
        Ok(pods.into_iter().find(|pod| is(pod, "Ready")))
    };
    eventually("istiod", ready).await?;
    let process = member.runner()?.processes().into_iter().next().context("no process")?;
    ensure!(process.version == VERSION && process.healthy, "{process:?}");
    let secret = Api::<Secret>::namespaced(member.client(), "istio-system");
    eventually("its CA", || async { Ok(secret.get_opt("istio-ca-secret").await?) }).await?;

    webhooks(member, &process).await.context("webhooks")?;

    let mesh = json!({"metadata": {"name": "mesh", "labels": {"istio.io/rev": REVISION}}});
    Api::<Namespace>::all(member.client())
        .create(&PostParams::default(), &serde_json::from_value(mesh)?)
        .await?;
    let deployments = Api::<Deployment>::namespaced(member.client(), "mesh");
    deployments.create(&PostParams::default(), &deployment("app", "nginx", 1)?).await?;
    let pod = eventually("an injected pod", || async {
        Ok(pods(member, "mesh", "app=app").await?.into_iter().find(|pod| is(pod, "Ready")))
    })
    .await?;
    ensure!(
        pod.annotations().get("istio.io/rev").map(String::as_str) == Some(REVISION),
        "{:?}",
        pod.annotations()
    );
    let spec = pod.spec.context("no spec")?;
    let images =
        spec.init_containers.iter().flatten().chain(&spec.containers).filter_map(|c| c.image.clone());
    let proxy = format!("docker.io/istio/proxyv2:{VERSION}");
    ensure!(images.collect::<Vec<_>>().contains(&proxy), "the sidecar is of {VERSION}");

    member.runner()?.hold_ready(VERSION);
    eventually("not ready", || async { Ok(ready().await?.is_none().then_some(())) }).await?;
    member.runner()?.release(VERSION);
    eventually("ready again", ready).await?;

    let pid = process.pid.context("no pid")?;
    // A process of this test's own bed, not yet reaped by it.
    ensure!(std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status()?.success());
    eventually("another process", || async {
        let now = member.runner()?.processes();
        Ok(now.into_iter().find(|now| now.healthy && now.restarts == 1 && now.pid != Some(pid)))
    })
    .await?;
    Api::<Deployment>::namespaced(member.client(), "istio-system")
        .delete(&format!("istiod-{REVISION}"), &DeleteParams::background())
        .await?;
    eventually("the process's end", || async { Ok(member.runner()?.processes().is_empty().then_some(())) })
        .await
}

/// Validation by istiod, and a Service that is routed elsewhere.
async fn webhooks(member: &Cluster, process: &PodProcess) -> Result<()> {
    // The webhook's CA bundle is filled in by istiod, so a refusal in its words is proof that the call reached it.
    let services = dynamic("networking.istio.io/v1", "VirtualService", "virtualservices");
    let api: Api<DynamicObject> = Api::namespaced_with(member.client(), "default", &services);
    let labels = json!({"istio.io/rev": REVISION});
    let bad = json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "bad", "labels": labels}, "spec": {"hosts": ["a"]}});
    let bad: DynamicObject = serde_json::from_value(bad)?;
    eventually("a refusal", || async {
        let dry_run = PostParams { dry_run: true, field_manager: None };
        match api.create(&dry_run, &bad).await {
            Err(kube::Error::Api(status)) if status.message.contains("http, tcp or tls must be provided") => {
                Ok(Some(()))
            }
            other => Err(anyhow::anyhow!("not refused by istiod: {other:?}")),
        }
    })
    .await?;

    // A Service without pods, as an operator under test has one, with istiod's own certificate behind it.
    let refused = || async {
        let dry_run = PostParams { dry_run: true, field_manager: None };
        anyhow::Ok(api.create(&dry_run, &bad).await.err().map(|error| error.to_string()))
    };
    let istiod = Api::<Service>::namespaced(member.client(), "istio-system");
    let name = format!("istiod-{REVISION}");
    let nobody = json!({"spec": {"selector": {"app": "nobody"}}});
    istiod.patch(&name, &PatchParams::default(), &Patch::Merge(&nobody)).await?;
    // An open connection may be used again; a new one is needed to see the difference.
    member.stop().await?;
    member.start().await?;
    // Let through or refused by the server itself, as the failure policy has it by then.
    eventually("an unreachable webhook", || async {
        let by_istiod =
            refused().await?.is_some_and(|error| error.contains("http, tcp or tls must be provided"));
        Ok((!by_istiod).then_some(()))
    })
    .await?;
    member.runner()?.route_service("istio-system", &name, process.ports.https);
    eventually("the route", || async {
        Ok(refused().await?.filter(|error| error.contains("http, tcp or tls must be provided")))
    })
    .await?;
    Ok(())
}
