//! The values that templates work on. Maps are references, as in Go: `set` in one template is seen by the next.
//!
//! A render makes its own values and drops them at its end, so they are counted without atomics and never leave the thread.

use std::{borrow::Cow, cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use serde_json::Value as Json;

/// Text and map keys; shared with parsed templates, which are used from many threads.
pub(crate) type Text = Arc<str>;

#[derive(Clone)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    /// Go's `int`: literals, `len`, `int`.
    Int(i64),
    /// Go's `int64`: arithmetic.
    Int64(i64),
    /// Go's `float64`: every number of the values.
    Float(f64),
    Str(Text),
    List(List),
    Map(Map),
    Object(Rc<dyn Object>),
}

/// What a list's Go type would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ListKind {
    Any,
    /// `[]interface{}(nil)`: as an empty list, but `null` in JSON.
    NilAny,
    Str,
    Int,
    Bytes,
}

#[derive(Clone)]
pub(crate) struct List {
    pub(crate) kind: ListKind,
    pub(crate) items: Rc<Vec<Value>>,
}

/// What a map's Go type would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MapKind {
    Any,
    /// `chartutil.Values`: a map for templates, but not for a type assertion.
    Values,
    /// `map[string]string`: a missing key is empty text instead of nothing.
    Str,
}

pub(crate) type Entries = BTreeMap<Text, Value>;

/// A reference to a map; the type it is seen as goes with the reference, as in Go.
#[derive(Clone)]
pub(crate) struct Map {
    kind: MapKind,
    entries: Rc<RefCell<Entries>>,
}

/// A Go struct or a type with methods, such as `.Chart`, `.Files` or a time.
pub(crate) trait Object {
    fn type_name(&self) -> &'static str;
    /// `struct`, `ptr`, `map`…: Go's `reflect.Kind`.
    fn kind_name(&self) -> &'static str;
    /// A field's value; `None` if there is no such field.
    fn field(&self, name: &str) -> Option<Value>;
    /// The parameters of a method; `None` if there is no such method.
    fn method(&self, _name: &str) -> Option<&'static [crate::functions::Param]> {
        None
    }
    /// Calls a method that [`Object::method`] knows, with arguments of the right types.
    fn call(&self, _name: &str, _args: &[Value]) -> Result<Value, String> {
        Ok(Value::Nil)
    }
    fn truth(&self) -> bool {
        true
    }
    /// `%v`.
    fn display(&self) -> String;
    /// The object as plain data, for JSON and YAML.
    fn data(&self) -> Value;
    /// Entries for `range`, where the type is a map.
    fn entries(&self) -> Option<Vec<(Text, Value)>> {
        None
    }
}

impl Map {
    pub(crate) fn new(kind: MapKind, entries: Entries) -> Self {
        Self { kind, entries: Rc::new(RefCell::new(entries)) }
    }

    pub(crate) fn any(entries: Entries) -> Self {
        Self::new(MapKind::Any, entries)
    }

    /// The same map, seen as another type.
    pub(crate) fn seen_as(&self, kind: MapKind) -> Self {
        Self { kind, entries: self.entries.clone() }
    }

    pub(crate) fn kind(&self) -> MapKind {
        self.kind
    }

    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        self.entries.borrow().get(key).cloned()
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.entries.borrow().contains_key(key)
    }

    pub(crate) fn insert(&self, key: Text, value: Value) {
        self.entries.borrow_mut().insert(key, value);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.entries.borrow_mut().remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// The entries as they are now, so that the map may change while they are walked.
    pub(crate) fn snapshot(&self) -> Vec<(Text, Value)> {
        self.entries.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Looks at the entries in place. The map must not be changed within.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Entries) -> T) -> T {
        look(&self.entries.borrow())
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.entries, &other.entries)
    }
}

impl List {
    pub(crate) fn any(items: Vec<Value>) -> Self {
        Self { kind: ListKind::Any, items: Rc::new(items) }
    }

    pub(crate) fn of(kind: ListKind, items: Vec<Value>) -> Self {
        Self { kind, items: Rc::new(items) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl Value {
    pub(crate) fn list(items: Vec<Value>) -> Self {
        Self::List(List::any(items))
    }

    pub(crate) fn texts<T: Into<Text>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(List::of(ListKind::Str, items.into_iter().map(|t| Self::Str(t.into())).collect()))
    }

    pub(crate) fn map(entries: Entries) -> Self {
        Self::Map(Map::any(entries))
    }

    pub(crate) fn empty_map() -> Self {
        Self::map(Entries::new())
    }

    pub(crate) fn int(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// A value of plain data; every number becomes a float, as in Helm's values.
    pub(crate) fn from_json(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Float(number.as_f64().unwrap_or(0.0)),
            Json::String(text) => text.as_str().into(),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Self::map(map.iter().map(|(k, v)| (Text::from(k.as_str()), Self::from_json(v))).collect())
            }
        }
    }

    /// Go's type name, as `%T` and error messages print it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(list) => match list.kind {
                ListKind::Any | ListKind::NilAny => "[]interface {}",
                ListKind::Str => "[]string",
                ListKind::Int => "[]int",
                ListKind::Bytes => "[]uint8",
            },
            Self::Map(map) => match map.kind() {
                MapKind::Any => "map[string]interface {}",
                MapKind::Values => "chartutil.Values",
                MapKind::Str => "map[string]string",
            },
            Self::Object(object) => object.type_name(),
        }
    }

    /// Go's kind name.
    pub(crate) fn kind_name(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Int64(_) => "int64",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "slice",
            Self::Map(_) => "map",
            Self::Object(object) => object.kind_name(),
        }
    }

    /// What `if` and `and` see.
    pub(crate) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) | Self::Int64(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(list) => !list.items.is_empty(),
            Self::Map(map) => map.len() > 0,
            Self::Object(object) => object.truth(),
        }
    }

    /// What `default` and `coalesce` see as nothing.
    pub(crate) fn is_empty(&self) -> bool {
        !self.truth()
    }

    /// Text as `toString` makes it: `%v`, but text as it is.
    pub(crate) fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Str(text) => Cow::Borrowed(text),
            Self::List(List { kind: ListKind::Bytes, items }) => Cow::Owned(bytes_to_text(items)),
            other => Cow::Owned(super::printf::display(other)),
        }
    }

    pub(crate) fn into_text(self) -> Text {
        match self {
            Self::Str(text) => text,
            other => other.to_text().into(),
        }
    }

    /// A copy that shares no map with this value.
    pub(crate) fn deep_copy(&self, depth: usize) -> Result<Self, TooDeep> {
        let depth = depth.checked_sub(1).ok_or(TooDeep)?;
        Ok(match self {
            Self::List(list) => {
                let mut items = Vec::with_capacity(list.items.len());
                for item in list.items.iter() {
                    items.push(item.deep_copy(depth)?);
                }
                Self::List(List::of(list.kind, items))
            }
            Self::Map(map) => {
                let copy = map.with(|entries| {
                    let mut copy = Entries::new();
                    for (key, value) in entries {
                        copy.insert(key.clone(), value.deep_copy(depth)?);
                    }
                    Ok(copy)
                })?;
                Self::Map(Map::new(map.kind(), copy))
            }
            other => other.clone(),
        })
    }

    /// Go's `reflect.DeepEqual`: types must be the same too.
    pub(crate) fn deep_equal(&self, other: &Self, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else { return false };
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) | (Self::Int64(a), Self::Int64(b)) => a == b,
            #[allow(clippy::float_cmp, reason = "equality is exact in Go")]
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::List(a), Self::List(b)) => {
                a.kind == b.kind
                    && a.items.len() == b.items.len()
                    && a.items.iter().zip(b.items.iter()).all(|(a, b)| a.deep_equal(b, depth))
            }
            (Self::Map(a), Self::Map(b)) => {
                a.same(b)
                    || (a.kind() == b.kind()
                        && a.with(|a| {
                            b.with(|b| {
                                a.len() == b.len()
                                    && a.iter()
                                        .zip(b.iter())
                                        .all(|((ka, va), (kb, vb))| ka == kb && va.deep_equal(vb, depth))
                            })
                        }))
            }
            (Self::Object(a), Self::Object(b)) => {
                a.type_name() == b.type_name() && a.data().deep_equal(&b.data(), depth)
            }
            _ => false,
        }
    }
}

pub(crate) fn bytes_to_text(items: &[Value]) -> String {
    let bytes: Vec<u8> = items
        .iter()
        .map(|item| match item {
            Value::Int(byte) => u8::try_from(*byte).unwrap_or(0),
            _ => 0,
        })
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A value that is nested deeper than any real one: a map that was put into itself.
#[derive(Debug)]
pub(crate) struct TooDeep;

/// How deep values may nest wherever they are walked.
pub(crate) const MAX_DEPTH: usize = 1_000;

/// Builds values from YAML: every number becomes a float, because Helm's values go through JSON.
pub(crate) struct ValueBuilder;

impl crate::yaml::Build for ValueBuilder {
    type Value = Value;
    type Map = Entries;

    fn null(&self) -> Value {
        Value::Nil
    }
    fn bool(&self, value: bool) -> Value {
        Value::Bool(value)
    }
    #[allow(clippy::cast_precision_loss, reason = "Go decodes every number into a float64")]
    fn int(&self, value: i64) -> Value {
        Value::Float(value as f64)
    }
    #[allow(clippy::cast_precision_loss, reason = "Go decodes every number into a float64")]
    fn uint(&self, value: u64) -> Value {
        Value::Float(value as f64)
    }
    fn float(&self, value: f64) -> Value {
        Value::Float(value)
    }
    fn text(&self, value: &str) -> Value {
        value.into()
    }
    fn list(&self, items: Vec<Value>) -> Value {
        Value::list(items)
    }
    fn new_map(&self) -> Entries {
        Entries::new()
    }
    fn insert(&self, map: &mut Entries, key: &str, value: Value) {
        map.insert(key.into(), value);
    }
    fn map(&self, map: Entries) -> Value {
        Value::map(map)
    }
}
