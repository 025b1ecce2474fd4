//! `.Files`.

use std::{rc::Rc, sync::Arc};

use base64::Engine as _;

use super::ChartFile;
use crate::{
    functions::{Param, to_yaml},
    template::value::{Entries, List, ListKind, Map, MapKind, Object, Text, Value},
};

/// The files of a chart that are no templates.
pub(crate) struct FilesObject {
    files: Vec<(Text, Arc<[u8]>)>,
}

/// The same, ready to be shared between renders.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFiles {
    files: Arc<Vec<(Text, Arc<[u8]>)>>,
}

impl SharedFiles {
    pub(crate) fn new(files: &[ChartFile]) -> Self {
        let files =
            files.iter().map(|file| (Text::from(file.name.as_str()), Arc::from(file.data.as_slice())));
        Self { files: Arc::new(files.collect()) }
    }

    pub(crate) fn value(&self) -> Value {
        Value::Object(Rc::new(FilesObject { files: self.files.to_vec() }))
    }
}

impl FilesObject {
    fn get(&self, name: &str) -> &[u8] {
        self.files.iter().find(|(known, _)| **known == *name).map_or(&[], |(_, data)| data)
    }

    fn config(&self, encode: impl Fn(&[u8]) -> String) -> Value {
        let entries: Entries = self
            .files
            .iter()
            .map(|(name, data)| {
                (Text::from(name.rsplit('/').next().unwrap_or(name)), Value::from(encode(data)))
            })
            .collect();
        to_yaml(&Value::Map(Map::new(MapKind::Str, entries))).into()
    }
}

fn to_text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn bytes(data: &[u8]) -> Value {
    Value::List(List::of(ListKind::Bytes, data.iter().map(|byte| Value::Int(i64::from(*byte))).collect()))
}

impl Object for FilesObject {
    fn type_name(&self) -> &'static str {
        "engine.files"
    }
    fn kind_name(&self) -> &'static str {
        "map"
    }
    fn field(&self, name: &str) -> Option<Value> {
        Some(bytes(self.get(name)))
    }
    fn method(&self, name: &str) -> Option<&'static [Param]> {
        match name {
            "Get" | "GetBytes" | "Glob" | "Lines" => Some(&[Param::Text]),
            "AsConfig" | "AsSecrets" => Some(&[]),
            _ => None,
        }
    }
    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String> {
        let path: &str = match args.first() {
            Some(Value::Str(path)) => path,
            _ => "",
        };
        Ok(match name {
            "Get" => to_text(self.get(path)).into(),
            "GetBytes" => bytes(self.get(path)),
            "Glob" => {
                let files =
                    self.files.iter().filter(|(name, _)| super::ignore::glob_matches(path, name)).cloned();
                Value::Object(Rc::new(Self { files: files.collect() }))
            }
            "Lines" => {
                let text = to_text(self.get(path));
                if text.is_empty() {
                    return Ok(Value::texts(Vec::<String>::new()));
                }
                Value::texts(text.strip_suffix('\n').unwrap_or(&text).split('\n'))
            }
            "AsConfig" => self.config(to_text),
            "AsSecrets" => self.config(|data| base64::engine::general_purpose::STANDARD.encode(data)),
            _ => Value::Nil,
        })
    }
    fn truth(&self) -> bool {
        !self.files.is_empty()
    }
    fn display(&self) -> String {
        let entries: Vec<String> = self
            .files
            .iter()
            .map(|(name, data)| format!("{name}:{}", crate::template::printf::display(&bytes(data))))
            .collect();
        format!("map[{}]", entries.join(" "))
    }
    fn data(&self) -> Value {
        Value::map(self.files.iter().map(|(name, data)| (name.clone(), bytes(data))).collect())
    }
    fn entries(&self) -> Option<Vec<(Text, Value)>> {
        let mut entries: Vec<_> = self.files.iter().map(|(name, data)| (name.clone(), bytes(data))).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Some(entries)
    }
}
