//! Every chart of Istio, for many values, equal to what the helm program renders.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unwrap_in_result,
    reason = "what a test needs and does not find is a failure of the test"
)]

mod support;

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use fedistio_charts::{Capabilities, Chart, CompiledChart, ReleaseOptions, yaml};

const CASES: &[(&str, &str, &str)] = &[
    // name, Kubernetes version, values
    ("default", "v1.34.0", ""),
    ("profile-ambient", "v1.34.0", "profile: ambient"),
    ("profile-demo", "v1.34.0", "profile: demo"),
    ("profile-preview", "v1.34.0", "profile: preview"),
    ("profile-remote", "v1.34.0", "profile: remote"),
    ("profile-stable", "v1.34.0", "profile: stable"),
    ("profile-unknown", "v1.34.0", "profile: no-such-profile"),
    ("platform-openshift", "v1.34.0", "{platform: openshift, global: {platform: openshift}}"),
    ("platform-gke", "v1.33.5-gke.1080000", "{global: {platform: gke}}"),
    ("platform-k3d", "v1.34.0", "{global: {platform: k3d}}"),
    ("platform-k3s", "v1.34.0", "{global: {platform: k3s}}"),
    ("platform-minikube", "v1.34.0", "{global: {platform: minikube}}"),
    ("platform-microk8s", "v1.34.0", "{global: {platform: microk8s}}"),
    ("platform-unknown", "v1.34.0", "{global: {platform: none-of-these}}"),
    ("gke-by-version", "v1.33.5-gke.1080000", ""),
    ("revision", "v1.34.0", "revision: canary"),
    ("revision-dashes", "v1.34.0", "{revision: 1-29-1, defaultRevision: 1-29-1}"),
    ("default-revision-empty", "v1.34.0", "defaultRevision: ''"),
    ("revision-tags", "v1.34.0", "{revision: blue, revisionTags: [prod, stage]}"),
    (
        "multi-cluster",
        "v1.34.0",
        "{global: {meshID: mesh1, network: net1, multiCluster: {enabled: true, clusterName: east}}}",
    ),
    (
        "remote",
        "v1.34.0",
        "{profile: remote, global: {remotePilotAddress: 10.1.2.3, externalIstiod: true, configCluster: true, omitSidecarInjectorConfigMap: true}, istiodRemote: {enabled: true, injectionPath: /inject/cluster/east/net/net1}}",
    ),
    ("remote-name", "v1.34.0", "{profile: remote, global: {remotePilotAddress: istiod.example.com}}"),
    ("compatibility-1.27", "v1.34.0", "compatibilityVersion: '1.27'"),
    ("compatibility-1.28", "v1.34.0", "compatibilityVersion: '1.28'"),
    ("compatibility-unknown", "v1.34.0", "compatibilityVersion: '0.1'"),
    (
        "autoscale-off",
        "v1.34.0",
        "{autoscaleEnabled: false, replicaCount: 3, autoscaling: {enabled: false}, pilot: {autoscaleEnabled: false, replicaCount: 3}}",
    ),
    (
        "autoscale-on",
        "v1.34.0",
        "{autoscaleEnabled: true, autoscaleMin: 2, autoscaleMax: 10, autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 9, targetMemoryUtilizationPercentage: 70, autoscaleBehavior: {scaleDown: {stabilizationWindowSeconds: 300}}}}",
    ),
    (
        "ports",
        "v1.34.0",
        "{service: {type: NodePort, ports: [{name: http2, port: 80, nodePort: 30080, protocol: TCP, targetPort: 80}, {name: https, port: 443, nodePort: 30443, protocol: TCP, targetPort: 443}], annotations: {a: b, 'c.d/e': '5'}}, networkGateway: net2}",
    ),
    (
        "gateway-kind",
        "v1.34.0",
        "{kind: DaemonSet, name: edge, labels: {app: x, istio: y}, serviceAccount: {create: false, name: sa}, podAnnotations: {x: 'yes'}, env: {A: '1', B: two}, nodeSelector: {'kubernetes.io/os': linux}, tolerations: [{operator: Exists}]}",
    ),
    (
        "mesh-config",
        "v1.34.0",
        "{meshConfig: {accessLogFile: /dev/stdout, defaultConfig: {proxyMetadata: {A: 'b c', LONG: 'a text that is longer than eighty columns so that the writer of YAML has to fold it somewhere'}, discoveryAddress: x:15012}, extensionProviders: [{name: otel, opentelemetry: {port: 4317, service: otel.svc}}]}}",
    ),
    (
        "image-settings",
        "v1.34.0",
        "{hub: registry.example:5000/istio, tag: 1.0-test, variant: distroless, global: {hub: gcr.io/x, tag: t, variant: debug, imagePullPolicy: Always, imagePullSecrets: [s1, s2], logging: {level: 'default:debug'}, logAsJson: true}}",
    ),
    (
        "resources",
        "v1.34.0",
        "{resources: {requests: {cpu: 1, memory: 1.5Gi}, limits: null}, global: {proxy: {resources: {limits: {cpu: 2000m}}}, defaultResources: {requests: {cpu: 5m}}}}",
    ),
    (
        "nulls",
        "v1.34.0",
        "{global: {proxy: null, logging: null}, resources: null, env: null, service: null, meshConfig: null}",
    ),
    (
        "null-deep",
        "v1.34.0",
        "{global: {proxy: {image: null, resources: null}}, podAnnotations: null, nodeSelector: null}",
    ),
    ("wrong-type-text", "v1.34.0", "global: text"),
    ("wrong-type-list", "v1.34.0", "{env: [1, 2], meshConfig: [a], service: 5}"),
    ("wrong-type-number", "v1.34.0", "{revision: 5, tolerations: 7, podAnnotations: yes}"),
    (
        "numbers",
        "v1.34.0",
        "{replicaCount: 1000000, traceSampling: 0.1, keepaliveMaxServerConnectionAge: 30m, terminationGracePeriodSeconds: 12345678, autoscaleMin: 3}",
    ),
    ("namespace-scope", "v1.34.0", "{global: {resourceScope: namespace, istioNamespace: mesh-system}}"),
    ("cluster-scope", "v1.34.0", "{global: {resourceScope: cluster}}"),
    ("network-policy", "v1.34.0", "{global: {networkPolicy: {enabled: true}}}"),
    (
        "crds-excluded",
        "v1.34.0",
        "{base: {excludedCRDs: [virtualservices.networking.istio.io], enableCRDTemplates: true}}",
    ),
    ("crds-off", "v1.34.0", "{base: {enableCRDTemplates: false}}"),
    (
        "validation",
        "v1.34.0",
        "{experimental: {stableValidationPolicy: true}, base: {validationURL: 'https://x', validationCABundle: Y2E=}, validationURL: 'https://y'}",
    ),
    (
        "ambient-cni",
        "v1.34.0",
        "{ambient: {enabled: true, dnsCapture: true, ipv6: false}, cni: {enabled: true, chained: false, provider: multus, ambient: {enabled: true}}, provider: multus, chained: false, excludeNamespaces: [a, b]}",
    ),
    (
        "cni-repair",
        "v1.34.0",
        "{repair: {enabled: false}, logging: {level: 'cni:debug'}, resourceQuotas: {enabled: true, pods: 100}, cniBinDir: /opt/bin, seccompProfile: {type: RuntimeDefault}}",
    ),
    (
        "pilot-legacy",
        "v1.34.0",
        "{pilot: {env: {PILOT_X: 'true', N: 5}, resources: {requests: {cpu: 100m}}, nodeSelector: {a: b}, tolerations: [{key: k, operator: Exists}], taint: {enabled: true, namespace: ns}}}",
    ),
    (
        "init-containers",
        "v1.34.0",
        "{initContainers: [{name: a, image: 'x:{{ .Values.revision | default \"none\" }}'}], extraContainerArgs: [--x, '--y=z'], volumes: [{name: v, emptyDir: {}}], volumeMounts: [{name: v, mountPath: /v}]}",
    ),
    (
        "templates",
        "v1.34.0",
        "{sidecarInjectorWebhook: {templates: {custom: 'spec: {}'}, defaultTemplates: [sidecar, custom], neverInjectSelector: [{matchLabels: {a: b}}], injectedAnnotations: {x: y}, reinvocationPolicy: IfNeeded, enableNamespacesByDefault: true}}",
    ),
    (
        "gateway-classes",
        "v1.34.0",
        "{gatewayClasses: {istio: {deployment: {spec: {replicas: 2}}}}, gatewayAPI: {x: y}}",
    ),
    (
        "waypoint",
        "v1.34.0",
        "{global: {waypoint: {resources: {requests: {cpu: 1}}, affinity: {a: b}, tolerations: [{key: x}]}, tracer: {}, sts: {servicePort: 15463}, caAddress: 'ca:15012', certSigners: [a/b]}}",
    ),
    (
        "ztunnel-legacy",
        "v1.34.0",
        "{ztunnel: {env: {X: y}}, labels: {l: m}, annotations: {n: o}, podLabels: {p: q}, resourceName: zt, xdsAddress: 'x:1', caAddress: 'y:2', multiCluster: {clusterName: c}}",
    ),
    ("unknown-keys", "v1.34.0", "{nothing: {of: [this, {is: known}]}}"),
    (
        "text-that-looks-like-other-things",
        "v1.34.0",
        "{revision: 'no', meshConfig: {a: 'yes', b: '1e3', c: '0x10', d: '2001-01-01', e: '~', f: '', g: ' x ', h: \"tab\\there\", i: \"two\\nlines\\n\", j: 'it''s', k: '- x', l: '@', m: \"é✓😀\", n: '1:30', '5': five, 'a b': c, x10: 1, x9: 2, X9: 3, _z: 4}}",
    ),
];

fn documents(text: &str) -> Vec<&str> {
    text.split("\n---\n").map(|document| document.trim_matches(['\n', '-'])).collect()
}

/// The message at the end of the chain of templates.
fn inner(error: &str) -> &str {
    error.trim()
}

fn compare(
    release: &str,
    chart: &str,
    compiled: &CompiledChart,
    path: &Path,
    case: &(&str, &str, &str),
) -> Result<bool, String> {
    let (name, kube_version, values) = case;
    let expected = support::helm_template_of_release(release, (chart, path), kube_version, values);
    let values = yaml::parse(values).expect("values are YAML");
    let options = ReleaseOptions::install("rel", "istio-system");
    let actual = compiled
        .render(&options, &values, &Capabilities::for_template(kube_version))
        .map(|rendered| rendered.to_helm_output())
        .map_err(|error| error.to_string());
    match (&expected, &actual) {
        (Ok(expected), Ok(actual)) if expected == actual => Ok(true),
        (Ok(expected), Ok(actual)) => {
            let (left, right) = (documents(expected), documents(actual));
            let at = left.iter().zip(&right).position(|(a, b)| a != b);
            let Some(at) = at else {
                return Err(format!(
                    "{release} {chart} {name}: {} documents, helm {}",
                    right.len(),
                    left.len()
                ));
            };
            let line = left[at].lines().zip(right[at].lines()).position(|(a, b)| a != b).unwrap_or(0);
            let near =
                |text: &str| text.lines().skip(line.saturating_sub(2)).take(5).collect::<Vec<_>>().join("\n");
            Err(format!(
                "{release} {chart} {name}: differs in {:?} at line {line}\n-- helm\n{}\n-- here\n{}",
                left[at].lines().next(),
                near(left[at]),
                near(right[at])
            ))
        }
        (Err(expected), Err(actual)) if inner(expected) == inner(actual) => Ok(false),
        _ => Err(format!(
            "{release} {chart} {name}: \n-- helm\n{}\n-- here\n{}",
            expected.as_ref().map_or_else(String::as_str, |_| "renders"),
            actual.as_ref().map_or_else(String::as_str, |_| "renders")
        )),
    }
}

#[test]
fn every_istio_chart_equals_helm() {
    let mut jobs = Vec::new();
    for (release, _) in support::RELEASES {
        for (chart, path) in support::istio_charts(release) {
            let loaded = Chart::from_dir(&path).expect("the chart loads");
            let compiled = CompiledChart::new(loaded).expect("the chart compiles");
            for case in CASES {
                jobs.push((release, chart, compiled.clone(), path.clone(), case));
            }
        }
    }
    let total = jobs.len();
    let queue = Mutex::new(jobs);
    let results = Mutex::new((0, 0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some((release, chart, compiled, path, case)) = queue.lock().unwrap().pop() else {
                        return;
                    };
                    let result = compare(release, chart, &compiled, &path, case);
                    let mut results = results.lock().unwrap();
                    match result {
                        Ok(true) => results.0 += 1,
                        Ok(false) => results.1 += 1,
                        Err(report) => results.2.push(report),
                    }
                }
            });
        }
    });
    let (equal, errors, differing) = results.into_inner().unwrap();
    eprintln!(
        "{total} cases: {equal} equal, {errors} errors in both with the same message, {} differ",
        differing.len()
    );
    let mut seen = BTreeMap::new();
    for report in &differing {
        *seen.entry(report.lines().skip(1).collect::<Vec<_>>().join("\n")).or_insert(0) += 1;
    }
    assert!(differing.is_empty(), "{}", differing.iter().take(12).cloned().collect::<Vec<_>>().join("\n\n"));
}
