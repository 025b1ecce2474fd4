//! What is in the members, by metadata-only watches that belong to the benchmark.

use super::target::{NAMESPACE, ROUND};
use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher::{self, Event},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Wait after a failed watch: short, as the watch must not be what is measured when a member comes back.
const RETRY: Duration = Duration::from_millis(50);

/// One object in one member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Value of the label [`ROUND`]; 0 where there is none.
    pub(super) round: u64,
    /// `metadata.generation`.
    pub(super) generation: i64,
    /// `false` once it was deleted.
    pub(super) present: bool,
    /// When the watch said so.
    at: Instant,
}

struct Change {
    member: usize,
    name: String,
    seen: Seen,
}

/// The watches of all members and what they have told so far.
pub(super) struct Sight {
    changes: mpsc::UnboundedReceiver<Change>,
    objects: Vec<HashMap<String, Seen>>,
    // Watches end with it.
    _watches: JoinSet<()>,
}

impl Sight {
    /// Watches the VirtualServices of the benchmark's namespace in these members, which are numbered in this order.
    pub(super) fn open(members: &[Client]) -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut watches = JoinSet::new();
        for (member, client) in members.iter().enumerate() {
            watches.spawn(watch(member, client.clone(), sender.clone()));
        }
        Self { changes, objects: vec![HashMap::new(); members.len()], _watches: watches }
    }

    /// Waits until `test` holds for all these objects in all these members. Returns when the last of them was seen so.
    ///
    /// # Errors
    /// After `bound`, with how many are missing.
    pub(super) async fn until(
        &mut self,
        what: &str,
        bound: Duration,
        members: &[usize],
        names: &[String],
        test: impl Fn(&Seen) -> bool,
    ) -> Result<Instant> {
        while let Ok(change) = self.changes.try_recv() {
            self.take(change);
        }
        let mut last: Option<Instant> = None;
        let mut missing: HashMap<usize, HashSet<&str>> = HashMap::new();
        for &member in members {
            for name in names {
                match self.objects[member].get(name).filter(|seen| test(seen)) {
                    Some(seen) => last = last.max(Some(seen.at)),
                    None => drop(missing.entry(member).or_default().insert(name.as_str())),
                }
            }
        }
        let deadline = tokio::time::Instant::now() + bound;
        while !missing.is_empty() {
            let Ok(change) = tokio::time::timeout_at(deadline, self.changes.recv()).await else {
                let members: BTreeSet<_> = missing.keys().map(|member| member + 1).collect();
                bail!(
                    "not within {} s: {what}; {} copies are missing, in members number {members:?}",
                    bound.as_secs(),
                    missing.values().map(HashSet::len).sum::<usize>()
                );
            };
            let change = change.context("the watches of the members have ended")?;
            if test(&change.seen)
                && let Some(names) = missing.get_mut(&change.member)
                && names.remove(change.name.as_str())
            {
                last = last.max(Some(change.seen.at));
                if names.is_empty() {
                    missing.remove(&change.member);
                }
            }
            self.take(change);
        }
        Ok(last.unwrap_or_else(Instant::now))
    }

    /// Waits until these objects are at this round or later in all these members.
    ///
    /// # Errors
    /// As [`Sight::until`].
    pub(super) async fn at_round(
        &mut self,
        bound: Duration,
        members: &[usize],
        names: &[String],
        round: u64,
    ) -> Result<Instant> {
        let what = format!("{} objects at round {round}", names.len());
        self.until(&what, bound, members, names, |seen| seen.present && seen.round >= round).await
    }

    /// Waits until these objects, which were seen before, are gone from all these members.
    ///
    /// # Errors
    /// As [`Sight::until`].
    pub(super) async fn gone(
        &mut self,
        bound: Duration,
        members: &[usize],
        names: &[String],
    ) -> Result<Instant> {
        let what = format!("{} objects deleted", names.len());
        self.until(&what, bound, members, names, |seen| !seen.present).await
    }

    fn take(&mut self, change: Change) {
        self.objects[change.member].insert(change.name, change.seen);
    }
}

async fn watch(member: usize, client: Client, changes: mpsc::UnboundedSender<Change>) {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let api: Api<PartialObjectMeta<DynamicObject>> =
        Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk(&kind));
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    let mut known: HashSet<String> = HashSet::new();
    let mut listed = HashSet::new();
    let send = |name: String, seen: Seen| drop(changes.send(Change { member, name, seen }));
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                let (name, seen) = seen(&object, true);
                listed.insert(name.clone());
                send(name, seen);
            }
            Ok(Event::InitDone) => {
                for name in known.difference(&listed) {
                    let seen = Seen { round: 0, generation: 0, present: false, at: Instant::now() };
                    send(name.clone(), seen);
                }
                known = std::mem::take(&mut listed);
            }
            Ok(Event::Apply(object)) => {
                let (name, seen) = seen(&object, true);
                if !known.contains(&name) {
                    known.insert(name.clone());
                }
                send(name, seen);
            }
            Ok(Event::Delete(object)) => {
                let (name, seen) = seen(&object, false);
                known.remove(&name);
                send(name, seen);
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn seen(object: &PartialObjectMeta<DynamicObject>, present: bool) -> (String, Seen) {
    let metadata = &object.metadata;
    let labels = metadata.labels.as_ref();
    let round = labels.and_then(|labels| labels.get(ROUND)?.parse().ok()).unwrap_or(0);
    let generation = metadata.generation.unwrap_or(0);
    (metadata.name.clone().unwrap_or_default(), Seen { round, generation, present, at: Instant::now() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> (mpsc::UnboundedSender<Change>, Sight) {
        let (sender, changes) = mpsc::unbounded_channel();
        (sender, Sight { changes, objects: vec![HashMap::new(); 2], _watches: JoinSet::new() })
    }

    fn change(member: usize, round: u64, present: bool) -> Change {
        let seen = Seen { round, generation: 1, present, at: Instant::now() };
        Change { member, name: "a".to_owned(), seen }
    }

    #[tokio::test]
    async fn waits_for_all_members_and_takes_the_last() {
        let (sender, mut sight) = sight();
        let names = ["a".to_owned()];
        sender.send(change(0, 2, true)).ok();
        let early = sight.at_round(Duration::ZERO, &[0, 1], &names, 2).await.unwrap_err().to_string();
        assert!(early.contains("1 copies are missing, in members number {2}"), "{early}");
        let late = change(1, 3, true);
        let at = late.seen.at;
        sender.send(late).ok();
        assert_eq!(sight.at_round(Duration::from_secs(5), &[0, 1], &names, 2).await.unwrap(), at);
        sender.send(change(0, 2, false)).ok();
        assert!(sight.gone(Duration::from_secs(5), &[0], &names).await.is_ok());
        assert!(sight.gone(Duration::ZERO, &[0, 1], &names).await.is_err());
    }
}
