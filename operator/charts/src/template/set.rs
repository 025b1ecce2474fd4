//! The named templates of a chart.

use std::{collections::HashMap, sync::Arc};

use super::{
    ast::is_empty_tree,
    parse::{Definition, Source, parse},
    value::Text,
};

/// The name of the template that all others belong to.
pub(crate) const ROOT_NAME: &str = "gotpl";

/// Templates by name. A later definition wins, but for an empty one.
#[derive(Clone, Debug, Default)]
pub(crate) struct TemplateSet {
    templates: HashMap<Text, Arc<Definition>>,
}

impl TemplateSet {
    pub(crate) fn get(&self, name: &str) -> Option<&Definition> {
        self.templates.get(name).map(AsRef::as_ref)
    }

    /// Parses a file and adds all it defines.
    pub(crate) fn add_source(&mut self, name: &str, text: &str) -> Result<(), String> {
        let source = Arc::new(Source { name: name.into(), text: text.to_owned() });
        self.add_all(parse(&source)?);
        Ok(())
    }

    pub(crate) fn add_all(&mut self, definitions: Vec<Definition>) {
        for definition in definitions {
            if is_empty_tree(&definition.root) && self.templates.contains_key(&definition.name) {
                continue;
            }
            self.templates.insert(definition.name.clone(), Arc::new(definition));
        }
    }
}
