//! YAML as Helm reads and writes it: YAML 1.1 by the rules of Go's library, and the output of `toYaml` byte for byte.

mod build;
mod emit;
mod parse;
mod resolve;
mod scan;

use serde_json::{Map, Number, Value};

pub(crate) use build::Build;
pub(crate) use emit::Emitter;
pub(crate) use resolve::{Resolved, parse_go_float, parse_go_int, resolve};

const TAG_PREFIX: &str = "tag:yaml.org,2002:";

/// Text that is not YAML, or YAML that JSON can't hold. The message reads like that of Go's library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    message: String,
}

impl YamlError {
    fn new(problem: &str, line: usize) -> Self {
        Self {
            message: if line == 0 {
                format!("yaml: {problem}")
            } else {
                format!("yaml: line {line}: {problem}")
            },
        }
    }

    fn plain(message: String) -> Self {
        Self { message }
    }
}

/// Reads the first document of `text`. Integers stay integers; a timestamp stays text; keys become text. Empty text is `null`.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    parse_with(text, &JsonBuilder)
}

/// Reads every document of `text`, empty ones (`null`) included.
pub fn parse_all(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut parser = parse::Parser::new(text)?;
    let mut documents = Vec::new();
    while let Some(document) = parser.document()? {
        documents.push(build::build(&document, &JsonBuilder)?);
    }
    Ok(documents)
}

/// Writes a value as Helm's `toYaml` does, with a line break at the end: keys in natural order, text folded at 80 columns.
pub fn to_string(value: &Value) -> String {
    let mut emitter = Emitter::new();
    emit_json(&mut emitter, value);
    emitter.finish()
}

pub(crate) fn parse_with<B: Build>(text: &str, builder: &B) -> Result<B::Value, YamlError> {
    match parse::Parser::new(text)?.document()? {
        Some(document) => build::build(&document, builder),
        None => Ok(builder.null()),
    }
}

struct JsonBuilder;

impl Build for JsonBuilder {
    type Value = Value;
    type Map = Map<String, Value>;

    fn null(&self) -> Value {
        Value::Null
    }
    fn bool(&self, value: bool) -> Value {
        Value::Bool(value)
    }
    fn int(&self, value: i64) -> Value {
        value.into()
    }
    fn uint(&self, value: u64) -> Value {
        value.into()
    }
    fn float(&self, value: f64) -> Value {
        Number::from_f64(value).map_or(Value::Null, Value::Number)
    }
    fn text(&self, value: &str) -> Value {
        Value::String(value.to_owned())
    }
    fn list(&self, items: Vec<Value>) -> Value {
        Value::Array(items)
    }
    fn new_map(&self) -> Self::Map {
        Map::new()
    }
    fn insert(&self, map: &mut Self::Map, key: &str, value: Value) {
        map.insert(key.to_owned(), value);
    }
    fn map(&self, map: Self::Map) -> Value {
        Value::Object(map)
    }
}

fn emit_json(emitter: &mut Emitter, value: &Value) {
    match value {
        Value::Null => emitter.plain("null"),
        Value::Bool(true) => emitter.plain("true"),
        Value::Bool(false) => emitter.plain("false"),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => {
                emitter.plain(&crate::template::number::yaml_number(float));
            }
            _ => emitter.plain(&number.to_string()),
        },
        Value::String(text) => emitter.string(text),
        Value::Array(items) if items.is_empty() => emitter.empty_sequence(),
        Value::Array(items) => {
            emitter.begin_sequence();
            for item in items {
                emitter.item();
                emit_json(emitter, item);
            }
            emitter.end();
        }
        Value::Object(map) if map.is_empty() => emitter.empty_mapping(),
        Value::Object(map) => {
            emitter.begin_mapping();
            let mut entries: Vec<(&str, &Value)> = map.iter().map(|(k, v)| (k.as_str(), v)).collect();
            sort_keys(&mut entries);
            for (key, value) in entries {
                emitter.key(key);
                emit_json(emitter, value);
            }
            emitter.end();
        }
    }
}

/// Puts entries in the natural order of Go's YAML writer: letters after other characters, digits by their number.
pub(crate) fn sort_keys<T: Copy>(entries: &mut [(&str, T)]) {
    // The order is not a strict one for every odd set of keys, so a sort that insists on that can't be used. Entries
    // come sorted by byte, which is nearly right already; large maps are sorted in halves that are merged.
    if entries.len() > 64 {
        let (left, right) = entries.split_at_mut(entries.len() / 2);
        sort_keys(left);
        sort_keys(right);
        let mut merged = Vec::with_capacity(left.len() + right.len());
        let (mut l, mut r) = (left.iter().peekable(), right.iter().peekable());
        while let (Some(a), Some(b)) = (l.peek(), r.peek()) {
            let next = if natural_less(b.0, a.0) { r.next() } else { l.next() };
            merged.extend(next.copied());
        }
        merged.extend(l.copied());
        merged.extend(r.copied());
        entries.copy_from_slice(&merged);
        return;
    }
    for at in 1..entries.len() {
        let mut place = at;
        while place > 0 && natural_less(entries[place].0, entries[place - 1].0) {
            entries.swap(place, place - 1);
            place -= 1;
        }
    }
}

fn natural_less(a: &str, b: &str) -> bool {
    let common = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    if common == a.len() || common == b.len() {
        return a.len() < b.len();
    }
    let mut common = common;
    while !a.is_char_boundary(common) {
        common -= 1;
    }
    let (ra, rb) = (&a[common..], &b[common..]);
    let (Some(ca), Some(cb)) = (ra.chars().next(), rb.chars().next()) else { return a.len() < b.len() };
    match (ca.is_alphabetic(), cb.is_alphabetic()) {
        (true, true) => return ca < cb,
        (false, false) => {}
        (_, letter) => return letter,
    }
    let mut base = 0_i64;
    if ca == '0' || cb == '0' {
        for c in a[..common].chars().rev().take_while(char::is_ascii_digit) {
            if c != '0' {
                base = 1;
                break;
            }
        }
    }
    let number = |text: &str| {
        text.bytes().take_while(u8::is_ascii_digit).fold((base, 0_usize), |(n, length), b| {
            (n.wrapping_mul(10).wrapping_add(i64::from(b - b'0')), length + 1)
        })
    };
    let ((na, la), (nb, lb)) = (number(ra), number(rb));
    if na != nb {
        return na < nb;
    }
    if la != lb {
        return la < lb;
    }
    ca < cb
}
