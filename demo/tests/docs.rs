//! What the documents say can be done: every `fedistio` command in them is one that the program takes, and every link between them
//! leads somewhere.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fedistio_tests::Operator;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// README.md, CHANGELOG.md and everything in docs.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// The command lines in the code blocks of a document: every line of a `bash` or `sh` block, and the lines after a prompt elsewhere.
/// A line that ends with a backslash goes on in the next.
fn command_lines(document: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut block, mut pending) = (None::<String>, String::new());
    for line in document.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language.trim().to_owned()) };
            continue;
        }
        let Some(language) = &block else { continue };
        let typed = line.trim_start();
        let typed = match typed.strip_prefix("$ ") {
            Some(typed) => typed,
            None if matches!(language.as_str(), "bash" | "sh") || !pending.is_empty() => typed,
            None => continue,
        };
        pending.push_str(typed.strip_suffix('\\').unwrap_or(typed));
        if !typed.ends_with('\\') {
            lines.push(std::mem::take(&mut pending));
        }
    }
    lines
}

/// The arguments of every call of `program` in a command line with pipes, redirections and lists.
fn calls(line: &str, program: &str) -> Vec<Vec<String>> {
    let mut calls: Vec<Vec<String>> = vec![Vec::new()];
    for word in words(line) {
        match word.as_str() {
            "|" | "&&" | ";" | "||" => calls.push(Vec::new()),
            _ => calls.last_mut().unwrap().push(word),
        }
    }
    calls
        .into_iter()
        .filter(|call| call.first().is_some_and(|first| first == program))
        .map(|call| {
            call.into_iter()
                .skip(1)
                .take_while(|word| !matches!(word.as_str(), ">" | ">>" | "<" | "#" | "&"))
                .collect()
        })
        .collect()
}

/// Words of a shell's command line, with the quotes taken off.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut started) = (Vec::new(), String::new(), None, false);
    for character in line.chars() {
        match quote {
            Some(open) if character == open => quote = None,
            None if matches!(character, '\'' | '"') => (quote, started) = (Some(character), true),
            None if character.is_whitespace() => {
                if started || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                started = false;
            }
            Some(_) | None => word.push(character),
        }
    }
    if started || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Targets of the links of a document that are files of this repository.
fn links(document: &str) -> Vec<String> {
    let mut inside = false;
    let text: Vec<&str> = document
        .lines()
        .filter(|line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
        .collect();
    let text = text.join("\n");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://") && !target.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_program_takes_every_command_of_the_documents() {
    let binary = Operator::binary().await.unwrap();
    let mut count = 0;
    for (path, text) in documents() {
        for line in command_lines(&text) {
            for mut call in calls(&line, "fedistio") {
                count += 1;
                // Help is shown only after everything before it has been understood.
                call.push("--help".to_owned());
                let output = tokio::process::Command::new(&binary).args(&call).output().await.unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{}: `{line}`: {said}", path.display());
            }
        }
    }
    assert!(count >= 10, "only {count} commands were found");
}

#[test]
fn cargo_commands_of_the_documents_name_packages_that_exist() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = [
        "crds",
        "operator/charts",
        "operator/federation",
        "operator/fedistio",
        "operator/istio",
        "tests",
        "demo",
    ];
    let names: Vec<String> = members
        .iter()
        .map(|member| {
            assert!(manifest.contains(&format!("\"{member}\"")), "{member}");
            let text = std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap();
            name.trim_end_matches('"').to_owned()
        })
        .collect();
    for (path, text) in documents() {
        for line in command_lines(&text) {
            for call in calls(&line, "cargo") {
                let package = call.iter().position(|word| word == "-p").map(|index| &call[index + 1]);
                assert!(
                    package.is_none_or(|package| names.contains(package)),
                    "{}: `{line}`",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut count = 0;
    for (path, text) in documents() {
        for link in links(&text) {
            count += 1;
            let file = link.split('#').next().unwrap_or(&link);
            let target = path.parent().unwrap().join(file);
            assert!(target.exists(), "{} links to {link}", path.display());
        }
    }
    assert!(count >= 5, "only {count} links were found");
}

#[test]
fn commands_are_found_where_people_would_type_them() {
    let document = "text `fedistio nonsense`\n```bash\nfedistio a | x\n# note\n```\n```console\n$ fedistio b \\\n    -c 'd e'\nfedistio output\n```\n";
    let found: Vec<_> = command_lines(document).iter().flat_map(|line| calls(line, "fedistio")).collect();
    assert_eq!(found, [vec!["a".to_owned()], vec!["b".to_owned(), "-c".to_owned(), "d e".to_owned()]]);
    assert_eq!(links("[a](b.md#c) [d](https://e) [f](#g)\n```\n[h](i)\n```\n"), ["b.md#c"]);
}

#[test]
fn every_manifest_of_the_demo_is_of_a_kind_that_the_operator_knows() {
    let crds = fedistio_crds::all_crds();
    let mut count = 0;
    for folder in ["istio", "bookinfo"] {
        for entry in std::fs::read_dir(root().join("demo/manifests").join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
            for document in documents.iter().filter(|document| !document.is_null()) {
                count += 1;
                let (kind, version) =
                    (document["kind"].as_str().unwrap(), document["apiVersion"].as_str().unwrap());
                let known = crds.iter().any(|crd| {
                    crd.spec.names.kind == kind
                        && version == format!("{}/{}", crd.spec.group, fedistio_crds::VERSION)
                });
                assert!(known || (kind, version) == ("Namespace", "v1"), "{}: {kind}", path.display());
                if version == "types.fedistio.io/v1alpha1" {
                    let spec: fedistio_crds::FederatedSpec =
                        serde_json::from_value(document["spec"].clone()).unwrap();
                    assert!(spec.placement.cluster_selector.is_some(), "{}: {kind}", path.display());
                }
            }
        }
    }
    assert!(count > 20, "{count}");
}
