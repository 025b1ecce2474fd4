//! The copies of one federated object by cluster: where a copy is, is wanted, or may still be. Pure.
//!
//! A sorted vector, exactly as long as it has to be: there is one for each federated object, and a B-tree's nodes have room for eleven
//! entries each.

use crate::engine::object::Copy;
use std::sync::Arc;

/// Copies by the name of their cluster, in its order.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Vec<(Arc<str>, Copy)>,
}

impl Ledger {
    fn find(&self, cluster: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(name, _)| (**name).cmp(cluster))
    }

    pub(crate) fn get(&self, cluster: &str) -> Option<&Copy> {
        let at = self.find(cluster).ok()?;
        self.entries.get(at).map(|(_, copy)| copy)
    }

    pub(crate) fn get_mut(&mut self, cluster: &str) -> Option<&mut Copy> {
        let at = self.find(cluster).ok()?;
        self.entries.get_mut(at).map(|(_, copy)| copy)
    }

    pub(crate) fn contains(&self, cluster: &str) -> bool {
        self.find(cluster).is_ok()
    }

    /// Adds a cluster that may have a copy; one that is there already stays as it is.
    pub(crate) fn add(&mut self, cluster: &Arc<str>) {
        if let Err(at) = self.find(cluster) {
            self.entries.reserve_exact(1);
            self.entries.insert(at, (Arc::clone(cluster), Copy::default()));
        }
    }

    /// Drops a cluster that has no copy any more.
    pub(crate) fn remove(&mut self, cluster: &str) {
        if let Ok(at) = self.find(cluster) {
            self.entries.remove(at);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Copy)> {
        self.entries.iter().map(|(cluster, copy)| (cluster, copy))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Copy)> {
        self.entries.iter_mut().map(|(cluster, copy)| (&*cluster, copy))
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|(cluster, _)| cluster)
    }

    pub(crate) fn copies(&self) -> impl Iterator<Item = &Copy> {
        self.entries.iter().map(|(_, copy)| copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(names: &[&str]) -> Ledger {
        let mut ledger = Ledger::default();
        for name in names {
            ledger.add(&Arc::from(*name));
        }
        ledger
    }

    #[test]
    fn clusters_are_in_order_and_there_once() {
        let mut ledger = ledger(&["b", "a", "c", "b"]);
        assert_eq!(ledger.clusters().map(|name| &**name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(ledger.entries.capacity(), 3);
        ledger.remove("b");
        ledger.remove("x");
        assert!(ledger.get("b").is_none() && ledger.contains("a") && ledger.contains("c"));
    }

    #[test]
    fn a_known_copy_is_not_replaced() {
        let mut ledger = ledger(&["a"]);
        ledger.get_mut("a").unwrap().attempts = 7;
        ledger.add(&Arc::from("a"));
        assert_eq!(ledger.get("a").unwrap().attempts, 7);
    }
}
