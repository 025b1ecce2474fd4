//! A tree of nodes to values, by the rules of Go's library when it decodes into `interface{}` and then through JSON.

use super::{
    TAG_PREFIX, YamlError,
    parse::{Document, NodeData, NodeId},
    resolve::{Resolved, resolve_hinted},
};

/// What a document is built into. Numbers come as the reader resolved them; the builder decides what they become.
pub(crate) trait Build {
    type Value;
    type Map;

    fn null(&self) -> Self::Value;
    fn bool(&self, value: bool) -> Self::Value;
    fn int(&self, value: i64) -> Self::Value;
    fn uint(&self, value: u64) -> Self::Value;
    fn float(&self, value: f64) -> Self::Value;
    fn text(&self, value: &str) -> Self::Value;
    fn list(&self, items: Vec<Self::Value>) -> Self::Value;
    fn new_map(&self) -> Self::Map;
    fn insert(&self, map: &mut Self::Map, key: &str, value: Self::Value);
    fn map(&self, map: Self::Map) -> Self::Value;
}

struct Decoder<'d, 'a, B> {
    document: &'d Document<'a>,
    build: &'d B,
    /// Aliases that are being expanded now, to find one inside itself.
    expanding: Vec<NodeId>,
    decoded: u64,
    decoded_by_alias: u64,
}

pub(super) fn build<B: Build>(document: &Document<'_>, build: &B) -> Result<B::Value, YamlError> {
    let mut decoder = Decoder { document, build, expanding: Vec::new(), decoded: 0, decoded_by_alias: 0 };
    decoder.value(document.root)
}

impl<B: Build> Decoder<'_, '_, B> {
    /// Counts one node. A small document may expand to almost only aliases, a large one to few: "billion laughs" ends here.
    fn count(&mut self) -> Result<(), YamlError> {
        const LOW: f64 = 400_000.0;
        const HIGH: f64 = 4_000_000.0;
        self.decoded += 1;
        if self.expanding.is_empty() {
            return Ok(());
        }
        self.decoded_by_alias += 1;
        if self.decoded_by_alias > 100 && self.decoded > 1000 {
            #[allow(clippy::cast_precision_loss, reason = "a ratio of counts far below 2^52")]
            let (all, aliased) = (self.decoded as f64, self.decoded_by_alias as f64);
            let allowed = 0.99 - 0.89 * ((all - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
            if aliased / all > allowed {
                return Err(YamlError::new("document contains excessive aliasing", 0));
            }
        }
        Ok(())
    }

    fn resolve_alias(&mut self, id: NodeId) -> Result<Option<NodeId>, YamlError> {
        let Some(node) = self.document.nodes.get(id) else { return Ok(None) };
        if let NodeData::Alias { name, target } = &node.data {
            if self.expanding.contains(&id) {
                return Err(YamlError::new(&format!("anchor '{name}' value contains itself"), 0));
            }
            return Ok(Some(*target));
        }
        Ok(None)
    }

    fn value(&mut self, id: NodeId) -> Result<B::Value, YamlError> {
        self.count()?;
        if let Some(target) = self.resolve_alias(id)? {
            self.expanding.push(id);
            let value = self.value(target);
            self.expanding.pop();
            return value;
        }
        let document = self.document;
        let Some(node) = document.nodes.get(id) else { return Ok(self.build.null()) };
        match &node.data {
            NodeData::Scalar { value, plain } => {
                let scalar = scalar(value, *plain, node.tag.as_deref())?;
                self.scalar_value(&scalar, value)
            }
            NodeData::Sequence(items) => {
                let mut list = Vec::with_capacity(items.len());
                for &item in items {
                    list.push(self.value(item)?);
                }
                Ok(self.build.list(list))
            }
            NodeData::Mapping(_) => {
                let mut map = self.build.new_map();
                self.fill(id, &mut map)?;
                Ok(self.build.map(map))
            }
            NodeData::Alias { .. } | NodeData::Open => Ok(self.build.null()),
        }
    }

    fn scalar_value(&self, scalar: &Scalar, text: &str) -> Result<B::Value, YamlError> {
        Ok(match scalar {
            Scalar::Resolved(Resolved::Null) => self.build.null(),
            Scalar::Resolved(Resolved::Bool(value)) => self.build.bool(*value),
            Scalar::Resolved(Resolved::Int(value)) => self.build.int(*value),
            Scalar::Resolved(Resolved::Uint(value)) => self.build.uint(*value),
            Scalar::Resolved(Resolved::Float(value)) => {
                if !value.is_finite() {
                    let shown = if value.is_nan() {
                        "NaN"
                    } else if *value > 0.0 {
                        "+Inf"
                    } else {
                        "-Inf"
                    };
                    return Err(YamlError::plain(format!("json: unsupported value: {shown}")));
                }
                self.build.float(*value)
            }
            Scalar::Resolved(Resolved::Timestamp | Resolved::Text) => self.build.text(text),
            Scalar::Binary(text) => self.build.text(text),
        })
    }

    /// Puts a mapping's entries into `map`, `<<` merges in their place: what comes later wins.
    fn fill(&mut self, id: NodeId, map: &mut B::Map) -> Result<(), YamlError> {
        let document = self.document;
        let Some(NodeData::Mapping(entries)) = document.nodes.get(id).map(|node| &node.data) else {
            return Err(merge_error());
        };
        for &(key, value) in entries {
            if self.is_merge(key) {
                self.merge(value, map)?;
                continue;
            }
            self.count()?;
            let key = self.key(key)?;
            let value = self.value(value)?;
            self.build.insert(map, &key, value);
        }
        Ok(())
    }

    fn is_merge(&self, id: NodeId) -> bool {
        self.document.nodes.get(id).is_some_and(|node| match &node.data {
            NodeData::Scalar { value, plain } => {
                value == "<<"
                    && (*plain
                        || node.tag.as_deref().and_then(|t| t.strip_prefix(TAG_PREFIX)) == Some("merge"))
            }
            _ => false,
        })
    }

    fn merge(&mut self, id: NodeId, map: &mut B::Map) -> Result<(), YamlError> {
        self.count()?;
        if let Some(target) = self.resolve_alias(id)? {
            self.expanding.push(id);
            let merged = self.fill(target, map);
            self.expanding.pop();
            return merged;
        }
        let document = self.document;
        match document.nodes.get(id).map(|node| &node.data) {
            Some(NodeData::Mapping(_)) => self.fill(id, map),
            Some(NodeData::Sequence(items)) => {
                // Earlier ones win, so they come last.
                for &item in items.iter().rev() {
                    if let Some(target) = self.resolve_alias(item)? {
                        self.expanding.push(item);
                        let merged = self.fill(target, map);
                        self.expanding.pop();
                        merged?;
                    } else {
                        self.fill(item, map)?;
                    }
                }
                Ok(())
            }
            _ => Err(merge_error()),
        }
    }

    fn key(&mut self, id: NodeId) -> Result<String, YamlError> {
        let mut id = id;
        if let Some(target) = self.resolve_alias(id)? {
            id = target;
        }
        let document = self.document;
        let Some(node) = document.nodes.get(id) else { return Ok(String::new()) };
        let NodeData::Scalar { value, plain } = &node.data else {
            let shown = self.go_syntax(id, 0);
            return Err(YamlError::new(&format!("invalid map key: {shown}"), 0));
        };
        Ok(match scalar(value, *plain, node.tag.as_deref())? {
            Scalar::Resolved(Resolved::Null) => {
                return Err(YamlError::plain(
                    "unsupported map key of type: %!s(<nil>), key: <nil>, value: <nil>".to_owned(),
                ));
            }
            Scalar::Resolved(Resolved::Bool(value)) => value.to_string(),
            Scalar::Resolved(Resolved::Int(value)) => value.to_string(),
            Scalar::Resolved(Resolved::Uint(value)) => {
                return Err(YamlError::plain(format!(
                    "unsupported map key of type: uint64, key: {value:#x}, value: <nil>"
                )));
            }
            Scalar::Resolved(Resolved::Float(value)) => float_key(value),
            Scalar::Resolved(Resolved::Timestamp | Resolved::Text) => value.clone().into_owned(),
            Scalar::Binary(text) => text,
        })
    }

    /// Go's `%#v` of a collection that stands where a key should: the text of a well-known error (`{{ }}` left in YAML).
    fn go_syntax(&self, id: NodeId, depth: usize) -> String {
        let Some(node) = self.document.nodes.get(id) else { return "interface {}(nil)".to_owned() };
        if depth > 8 {
            return "...".to_owned();
        }
        match &node.data {
            NodeData::Scalar { value, plain } => match scalar(value, *plain, node.tag.as_deref()) {
                Ok(Scalar::Resolved(Resolved::Null)) => "interface {}(nil)".to_owned(),
                Ok(Scalar::Resolved(Resolved::Bool(value))) => value.to_string(),
                Ok(Scalar::Resolved(Resolved::Int(value))) => value.to_string(),
                Ok(Scalar::Resolved(Resolved::Float(value))) => crate::template::number::format_float(value),
                _ => format!("{value:?}"),
            },
            NodeData::Sequence(items) => {
                let items: Vec<_> = items.iter().map(|&item| self.go_syntax(item, depth + 1)).collect();
                format!("[]interface {{}}{{{}}}", items.join(", "))
            }
            NodeData::Mapping(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|&(key, value)| {
                        format!("{}:{}", self.go_syntax(key, depth + 1), self.go_syntax(value, depth + 1))
                    })
                    .collect();
                format!("map[interface {{}}]interface {{}}{{{}}}", entries.join(", "))
            }
            NodeData::Alias { target, .. } => self.go_syntax(*target, depth + 1),
            NodeData::Open => "interface {}(nil)".to_owned(),
        }
    }
}

fn merge_error() -> YamlError {
    YamlError::new("map merge requires map or sequence of maps as the value", 0)
}

/// A float key prints with the shortest digits that a 32-bit float needs, as Go's conversion does.
fn float_key(value: f64) -> String {
    if value.is_nan() {
        return ".nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    #[allow(clippy::cast_possible_truncation, reason = "keys are printed with 32-bit precision")]
    let short = value as f32;
    crate::template::number::format_exponent(&format!("{short:e}"))
}

enum Scalar {
    Resolved(Resolved),
    Binary(String),
}

fn scalar(value: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, YamlError> {
    let Some(tag) = tag else {
        return Ok(Scalar::Resolved(if plain { resolve_hinted(value, true) } else { Resolved::Text }));
    };
    let Some(kind) = tag.strip_prefix(TAG_PREFIX) else { return Ok(Scalar::Resolved(Resolved::Text)) };
    if kind == "binary" {
        use base64::Engine as _;
        let compact: String = value.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
        return base64::engine::general_purpose::STANDARD
            .decode(compact)
            .map(|bytes| Scalar::Binary(String::from_utf8_lossy(&bytes).into_owned()))
            .map_err(|_| YamlError::new("!!binary value contains invalid base64 data", 0));
    }
    if !matches!(kind, "str" | "bool" | "int" | "float" | "null" | "timestamp") || kind == "str" {
        return Ok(Scalar::Resolved(Resolved::Text));
    }
    let resolved = resolve_hinted(value, kind == "timestamp");
    let (found, fits) = match resolved {
        Resolved::Null => ("null", kind == "null"),
        Resolved::Bool(_) => ("bool", kind == "bool"),
        Resolved::Int(_) | Resolved::Uint(_) => ("int", kind == "int" || kind == "float"),
        Resolved::Float(_) => ("float", kind == "float"),
        Resolved::Timestamp => ("timestamp", kind == "timestamp"),
        Resolved::Text => ("str", false),
    };
    if !fits {
        return Err(YamlError::new(&format!("cannot decode !!{found} `{value}` as a !!{kind}"), 0));
    }
    #[allow(clippy::cast_precision_loss, reason = "the tag asks for a float")]
    Ok(Scalar::Resolved(match resolved {
        Resolved::Int(value) if kind == "float" => Resolved::Float(value as f64),
        other => other,
    }))
}
