//! Nothing that comes in may panic, hang or use up the memory.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::unwrap_in_result,
    reason = "what a test needs and does not find is a failure of the test"
)]

use fedistio_charts::{
    Capabilities, Chart, ChartError, ChartFile, CompiledChart, Limits, ReleaseOptions, RenderError, yaml,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn chart(template: &str) -> Result<Chart, ChartError> {
    Chart::from_memory(vec![
        ChartFile { name: "Chart.yaml".to_owned(), data: b"name: t\nversion: 1.0.0\n".to_vec() },
        ChartFile { name: "templates/t.yaml".to_owned(), data: template.as_bytes().to_vec() },
    ])
}

fn render(template: &str) -> Result<String, RenderError> {
    let limits = Limits { output_bytes: 1 << 20, steps: 100_000, depth: 200 };
    let compiled = CompiledChart::with_limits(chart(template).expect("loads"), limits)?;
    let values = json!({"a": {"b": [1, "x", null, {"c": true}]}, "s": "text"});
    compiled
        .render(&ReleaseOptions::install("r", "n"), &values, &Capabilities::new("1.34.0"))
        .map(|rendered| rendered.to_helm_output())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |float| float.is_finite()).prop_map(Value::from),
        "[ -~\\n\\t\u{85}é✓😀]{0,90}".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::hash_map("[a-zA-Z0-9_. -]{0,12}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Numbers compare by value: a whole float is written as an integer.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn templates_never_panic(template in "(\\{\\{|\\}\\}|-|\\.|\\$|[a-z]{1,4}|\"|`|\\(|\\)|\\||if |end|range |with |define |:=|=|,| |\n|1|é){0,40}") {
        let _ = render(&template);
    }

    #[test]
    fn any_text_is_a_template_or_an_error(template in "\\PC{0,80}") {
        let _ = render(&template);
        let _ = render(&format!("{{{{ {template} }}}}"));
    }

    #[test]
    fn yaml_never_panics(text in "([a-z]{1,3}|: |- |\n|  |\t|\\[|\\]|\\{|\\}|,|\\? |&a |\\*a|!!str |!|\\||>|'|\"|#|%|@|---\n|\\.\\.\\.\n|<<|1|~|\\\\|\r|\u{feff}|\u{85}){0,40}") {
        let _ = yaml::parse_all(&text);
    }

    #[test]
    fn what_is_written_reads_the_same(value in json_value()) {
        let text = yaml::to_string(&value);
        let read = yaml::parse(&text).expect("our own YAML reads");
        prop_assert!(same(&value, &read), "{value} became {read} by way of\n{text}");
    }

    #[test]
    fn archives_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Chart::from_archive(&bytes);
    }
}

#[test]
fn a_map_in_itself_ends() {
    for template in [
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ toYaml $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ toJson $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ deepCopy $d }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ mergeOverwrite (dict \"d\" (dict)) $d (dict \"d\" $d) }}",
        "{{ $d := dict \"a\" 1 }}{{ $e := dict \"d\" $d }}{{ $_ := set $d \"d\" $e }}{{ merge $d $e }}",
        "{{ $d := dict }}{{ $_ := set $d \"d\" $d }}{{ deepEqual $d (deepCopy (dict \"d\" $d)) }}",
    ] {
        // An error or some text: both are ends.
        let _ = render(template);
    }
}

#[test]
fn endless_templates_end() {
    let message = |template: &str| render(template).expect_err("must end").to_string();
    assert!(
        message("{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}")
            .contains("nested reference")
    );
    assert!(
        message("{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}").contains("depth")
    );
    assert!(message("{{ range until 1000 }}{{ range until 1000 }}{{ end }}{{ end }}").contains("steps"));
    assert!(message("{{ range until 50000 }}{{ repeat 1000 \"a\" }}{{ end }}").contains("output"));
    assert!(message("{{ until 100000000 }}").contains("refused"));
    assert!(message("{{ repeat 1000000000 \"abc\" }}").contains("overflow"));
    assert!(message(&format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000))).contains("depth"));
    assert!(message(&"{{ if true }}".repeat(5000)).contains("depth"));
}

#[test]
fn deep_recursion_within_the_bounds_works() {
    let compiled = CompiledChart::new(
        chart("{{ define \"x\" }}{{ if gt . 0 }}{{ include \"x\" (int (sub . 1)) }}{{ else }}done{{ end }}{{ end }}a: {{ include \"x\" 900 }}")
            .expect("loads"),
    )
    .expect("compiles");
    let rendered = compiled
        .render(&ReleaseOptions::install("r", "n"), &Value::Null, &Capabilities::new("1.34.0"))
        .expect("renders");
    assert_eq!(rendered.manifests[0].text, "a: done");
}

#[test]
fn yaml_bombs_end() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(yaml::parse(&text).expect_err("must end").to_string().contains("excessive aliasing"));
    assert!(yaml::parse(&"[".repeat(100_000)).is_err());
    assert!(yaml::parse(&"- ".repeat(100_000)).is_err());
    assert!(yaml::parse("a: &x [*x]").is_err());
}

#[test]
fn a_render_changes_nothing() {
    let chart = Chart::from_memory(vec![
        ChartFile { name: "Chart.yaml".to_owned(), data: b"name: t\nversion: 1.0.0\n".to_vec() },
        ChartFile { name: "values.yaml".to_owned(), data: b"m: {n: 0}\n".to_vec() },
        ChartFile {
            name: "templates/t.yaml".to_owned(),
            data: b"{{ $_ := set .Values.m \"n\" (add .Values.m.n 1) }}count: {{ .Values.m.n }}".to_vec(),
        },
    ])
    .expect("loads");
    let compiled = CompiledChart::new(chart).expect("compiles");
    let values = json!({"x": {"y": 1}});
    for _ in 0..3 {
        let rendered = compiled
            .render(&ReleaseOptions::install("r", "n"), &values, &Capabilities::new("1.34.0"))
            .expect("renders");
        assert_eq!(rendered.manifests[0].value, json!({"count": 1}));
    }
}

#[test]
fn hooks_notes_and_order() {
    let file = |name: &str, text: &str| ChartFile { name: name.to_owned(), data: text.as_bytes().to_vec() };
    let chart = Chart::from_memory(vec![
        file("Chart.yaml", "name: t\nversion: 1.0.0\n"),
        file("templates/a.yaml", "kind: Deployment\n---\nkind: Service\n---\n# nothing\n---\nkind: Zebra\n"),
        file("templates/b.yaml", "kind: Job\nmetadata: {name: j, annotations: {helm.sh/hook: 'pre-install, test', helm.sh/hook-weight: '5', helm.sh/hook-delete-policy: hook-succeeded}}"),
        file("templates/NOTES.txt", "Thank you for {{ .Release.Name }}"),
        file("templates/_p.tpl", "{{ define \"p\" }}{{ end }} not rendered"),
    ])
    .expect("loads");
    let compiled = CompiledChart::new(chart).expect("compiles");
    let rendered = compiled
        .render(&ReleaseOptions::install("r", "n"), &Value::Null, &Capabilities::new("1.34.0"))
        .expect("renders");
    let kinds: Vec<_> = rendered.manifests.iter().map(|manifest| manifest.value["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("Service"), Some("Deployment"), None, Some("Zebra")]);
    assert_eq!(rendered.notes.as_deref(), Some("Thank you for r"));
    let hook = &rendered.hooks[0];
    assert_eq!((hook.events.clone(), hook.weight), (vec!["pre-install".to_owned(), "test".to_owned()], 5));
    assert_eq!(hook.delete_policies, ["hook-succeeded"]);
}
