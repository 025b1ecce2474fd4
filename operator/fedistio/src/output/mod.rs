//! What commands print, and in which form.

pub(crate) mod age;
pub(crate) mod table;
pub(crate) mod yaml;

use crate::output::yaml::YamlError;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, IsTerminal as _, Write as _};

/// Form of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table.
    #[default]
    #[value(skip)]
    Table,
    /// A table with more columns.
    Wide,
    /// JSON, for programs.
    Json,
    /// YAML, for people and `kubectl apply`.
    Yaml,
    /// One `type/name` a line.
    Name,
}

/// The `-o` flag of listings.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FormatFlag {
    /// Output format; without it a table.
    #[arg(short = 'o', long = "output", value_name = "FORMAT")]
    output: Option<Format>,
}

impl FormatFlag {
    /// The chosen form.
    pub(crate) fn format(self) -> Format {
        self.output.unwrap_or_default()
    }
}

/// Why something can't be printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// Standard output is full, closed for another reason than its reader's end, or broken.
    #[error("can't write to standard output")]
    Write(#[source] io::Error),
    /// The value can't be written as JSON.
    #[error("can't write JSON")]
    Json(#[source] serde_json::Error),
    /// The value can't be written as YAML.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// Should standard output be coloured? On a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(crate) fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes `text` to standard output. A reader that went away (`… | head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputError::Write(error)),
        _ => Ok(()),
    }
}

/// Writes a line for people to standard error, where it does not disturb output that a program reads.
pub(crate) fn note(text: &str) {
    // Nothing is left to tell the reader when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The items, each on a line of its own.
pub(crate) fn lines(items: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for item in items {
        text.push_str(&item);
        text.push('\n');
    }
    text
}

/// An error and its causes in one line; a cause that the line before it already tells is left out.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// `value` as indented JSON with a line break at its end.
pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<String, OutputError> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(OutputError::Json)
}

/// Objects as one `v1` List, as `kubectl get -o json` gives several.
pub(crate) fn list(items: Vec<Value>) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
}

/// Objects in a form for programs: one object alone or a list, as JSON or YAML.
pub(crate) fn objects(mut items: Vec<Value>, single: bool, format: Format) -> Result<String, OutputError> {
    let value = match items.pop() {
        Some(item) if single && items.is_empty() => item,
        Some(item) => {
            items.push(item);
            list(items)
        }
        None => list(items),
    };
    if format == Format::Json { to_json(&value) } else { Ok(yaml::to_yaml(&value)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_named_object_stands_alone_and_several_become_a_list() {
        let one = objects(vec![json!({ "kind": "A" })], true, Format::Yaml).unwrap();
        assert_eq!(one, "kind: A\n");
        let listed = objects(vec![json!({ "kind": "A" })], false, Format::Json).unwrap();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed["kind"], "List");
        assert_eq!(listed["items"], json!([{ "kind": "A" }]));
        let none = objects(Vec::new(), true, Format::Yaml).unwrap();
        assert!(none.contains("items: []"), "{none}");
    }
}
