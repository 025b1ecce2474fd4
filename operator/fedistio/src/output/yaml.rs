//! Writes YAML, for people and for `kubectl`.
//!
//! The only place that does: strings that any YAML reader could take for something else (`yes`, `1.0`, `0o7`, `null`) are
//! quoted, text of several lines becomes a literal block, and long text stays on one line, so that a diff of generated files shows
//! what changed and not how it was wrapped.

use serde::Serialize;

/// Why something can't be written as YAML.
#[derive(Debug, thiserror::Error)]
#[error("can't write YAML")]
pub(crate) struct YamlError(#[from] serde_saphyr::ser::Error);

/// `value` as one YAML document without a document marker, ending in a line break.
pub(crate) fn to_yaml<T: Serialize>(value: &T) -> Result<String, YamlError> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let mut text = serde_saphyr::to_string_with_options(value, options)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// `values` as a stream of documents, each begun with `---`.
pub(crate) fn to_yaml_stream<T: Serialize>(values: impl IntoIterator<Item = T>) -> Result<String, YamlError> {
    let mut stream = String::new();
    for value in values {
        stream.push_str("---\n");
        stream.push_str(&to_yaml(&value)?);
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(value: &Value) -> String {
        to_yaml(value).unwrap()
    }

    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        for text in [
            "yes",
            "no",
            "on",
            "y",
            "null",
            "~",
            "",
            "true",
            "1.0",
            "007",
            "0o7",
            "0x1f",
            "1e3",
            ".5",
            "12:30:45",
            "2026-02-16",
            "<<",
            "=",
            "- a",
            "a: b",
            "#x",
            " lead",
            "trail ",
            "@at",
            "%pct",
            "`tick",
            "{a}",
            "[a]",
            "*star",
            "&amp",
            "!bang",
            "---",
        ] {
            let yaml = written(&json!({ "value": text }));
            let value = yaml.trim_end().strip_prefix("value: ").unwrap();
            assert!(value.starts_with(['"', '\'']), "{text:?} was written as {value}");
            let back: Value = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(back["value"], json!(text));
        }
    }

    #[test]
    fn text_of_several_lines_becomes_a_block() {
        let yaml = written(&json!({ "text": "first\n  second: x\n\nlast\n" }));
        assert_eq!(yaml, "text: |\n  first\n    second: x\n\n  last\n");
        for text in ["a\nb", "a\n", "a\n\n", "\na", " a\nb", "a \n b\t\n", "a\r\nb", "\n", "a: 1\n---\nb"] {
            let yaml = written(&json!({ "outer": [{ "text": text }] }));
            let back: Value = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(back["outer"][0]["text"], json!(text), "{yaml}");
        }
    }

    #[test]
    fn numbers_empty_collections_and_nesting_survive() {
        let value = json!({
            "a": [], "b": {}, "c": [[1, 2], [], [{}]], "d": 1.5, "e": -3, "f": u64::MAX, "g": null, "h": true,
            "i": { "x/y.z": { "*": "v" } }, "80": "key",
        });
        let back: Value = serde_saphyr::from_str(&written(&value)).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn long_text_is_not_wrapped() {
        let text = "word ".repeat(100).trim_end().to_owned();
        assert_eq!(written(&json!({ "text": text })), format!("text: {text}\n"));
    }

    #[test]
    fn every_document_of_a_stream_has_a_marker() {
        let stream = to_yaml_stream([json!({ "a": 1 }), json!({ "b": 2 })]).unwrap();
        assert_eq!(stream, "---\na: 1\n---\nb: 2\n");
    }
}
