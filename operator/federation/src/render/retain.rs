//! Retained fields: sent when a copy is made, left alone once somebody else has taken them over.

use serde_json::Value;
use std::fmt;

/// A path such as `/webhooks/*/failurePolicy`; `*` is any element of a list or key of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Any,
    Key(String),
}

/// Why a text is no [`RetainPath`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{path:?} is not a path to retain; write for example /spec/replicas or /webhooks/*/failurePolicy")]
pub struct RetainError {
    path: String,
}

impl RetainPath {
    /// Reads a path. `~1` and `~0` stand for `/` and `~` in keys, as in JSON pointers.
    ///
    /// # Errors
    /// When the path does not start with `/` or has an empty step.
    pub fn parse(path: &str) -> Result<Self, RetainError> {
        let error = || RetainError { path: path.to_owned() };
        let rest = path.strip_prefix('/').ok_or_else(error)?;
        let steps = rest
            .split('/')
            .map(|step| match step {
                "" => Err(error()),
                "*" => Ok(Step::Any),
                key => Ok(Step::Key(key.replace("~1", "/").replace("~0", "~"))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { steps })
    }

    /// Visits every place in `object` that the path stands for, as concrete steps.
    pub(crate) fn places(&self, object: &Value) -> Vec<Vec<Place>> {
        let mut found = Vec::new();
        collect(object, &self.steps, &mut Vec::new(), &mut found);
        found
    }
}

/// One concrete step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    Key(String),
    Index(usize),
}

fn collect(value: &Value, steps: &[Step], place: &mut Vec<Place>, found: &mut Vec<Vec<Place>>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(place.clone());
        return;
    };
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                if *step == Step::Any || matches!(step, Step::Key(wanted) if wanted == key) {
                    place.push(Place::Key(key.clone()));
                    collect(child, rest, place, found);
                    place.pop();
                }
            }
        }
        Value::Array(list) => {
            for (index, child) in list.iter().enumerate() {
                if *step == Step::Any {
                    place.push(Place::Index(index));
                    collect(child, rest, place, found);
                    place.pop();
                }
            }
        }
        _ => {}
    }
}

/// Removes what stands at `place`; nothing where there is nothing.
pub(crate) fn remove_place(object: &mut Value, place: &[Place]) {
    let Some((last, parents)) = place.split_last() else { return };
    let mut at = object;
    for step in parents {
        let next = match step {
            Place::Key(key) => at.get_mut(key.as_str()),
            Place::Index(index) => at.get_mut(*index),
        };
        let Some(next) = next else { return };
        at = next;
    }
    if let (Value::Object(map), Place::Key(key)) = (at, last) {
        map.remove(key);
    }
}

impl fmt::Display for RetainPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Any => formatter.write_str("/*")?,
                Step::Key(key) => write!(formatter, "/{}", key.replace('~', "~0").replace('/', "~1"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_star_is_any_element() {
        let object = json!({"webhooks": [{"name": "a", "failurePolicy": "Ignore"}, {"name": "b"}]});
        let path = RetainPath::parse("/webhooks/*/failurePolicy").unwrap();
        let places = path.places(&object);
        assert_eq!(places.len(), 1);
        let mut changed = object;
        remove_place(&mut changed, &places[0]);
        assert_eq!(changed, json!({"webhooks": [{"name": "a"}, {"name": "b"}]}));
        assert_eq!(path.to_string(), "/webhooks/*/failurePolicy");
    }

    #[test]
    fn nonsense_is_refused() {
        for path in ["", "spec", "/", "/spec//a"] {
            assert!(RetainPath::parse(path).is_err(), "{path}");
        }
        assert_eq!(
            RetainPath::parse("/metadata/annotations/a~1b").unwrap().to_string(),
            "/metadata/annotations/a~1b"
        );
    }
}
