//! Kubernetes Events about objects of the host: what went wrong in which cluster, and what was put right.

use crate::{engine::object::Object, plan::Verdict, worker::chain};
use fedistio_crds::{CopyState, FIELD_MANAGER};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::task::JoinSet;

/// Events under way at once. More are dropped: the status says the same, and a broken member must not flood the host.
const UNDER_WAY: usize = 32;
/// Longest note, in characters; the API refuses more than 1024 bytes.
const NOTE: usize = 800;

/// Publishes Events in the background. Cheap to clone; clones share their memory of repeated Events.
#[derive(Clone)]
pub struct Announcer {
    recorder: Recorder,
    under_way: Arc<AtomicUsize>,
}

/// What an Event says. Pure data, so that it can be decided without a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Is something wrong?
    pub warning: bool,
    /// Why it is said, in CamelCase.
    pub reason: String,
    /// What the operator was about.
    pub action: &'static str,
    /// What happened, and what to do.
    pub note: String,
}

/// The Event for a copy that has become `verdict`; none where nothing new went wrong or was repaired.
pub(crate) fn news(cluster: &str, before: Option<&Verdict>, verdict: &Verdict) -> Option<Announcement> {
    let failed = verdict.state == CopyState::Failed;
    let failed_before =
        before.is_some_and(|before| before.state == CopyState::Failed && before.reason == verdict.reason);
    if !failed || failed_before {
        return None;
    }
    let note = format!("{cluster}: {}", verdict.message);
    Some(Announcement { warning: true, reason: verdict.reason.to_string(), action: "Propagate", note })
}

/// The Event for a copy that somebody else has changed.
pub(crate) fn drift(cluster: &str) -> Announcement {
    let note = format!("{cluster}: somebody else changed the copy; it is put right");
    Announcement { warning: false, reason: "DriftCorrected".to_owned(), action: "Correct", note }
}

/// The Event for a copy that is given up.
pub(crate) fn released(cluster: &str, why: &str) -> Announcement {
    let note = format!("{cluster}: {why}; the copy that is left there is orphaned");
    Announcement { warning: true, reason: "CopyReleased".to_owned(), action: "Release", note }
}

impl Announcer {
    /// Publishes on `host`.
    pub fn new(host: Client) -> Self {
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        Self { recorder: Recorder::new(host, reporter), under_way: Arc::default() }
    }

    /// Publishes about a federated object, as a task of `tasks`.
    pub(crate) fn publish(&self, object: &Object, announcement: Announcement, tasks: &mut JoinSet<()>) {
        let federated = &object.type_.config.federated;
        let namespace = Some(object.owner.namespace.to_string()).filter(|namespace| !namespace.is_empty());
        let reference = ObjectReference {
            api_version: Some(federated.api_version()),
            kind: Some(federated.kind.clone()),
            name: Some(object.owner.name.to_string()),
            namespace,
            uid: Some(object.uid.clone()),
            ..ObjectReference::default()
        };
        self.publish_about(reference, announcement, tasks);
    }

    /// Publishes about any object of the host, as a task of `tasks`. What can't be written is dropped.
    pub fn publish_about(
        &self,
        reference: ObjectReference,
        announcement: Announcement,
        tasks: &mut JoinSet<()>,
    ) {
        if self.under_way.fetch_add(1, Ordering::AcqRel) >= UNDER_WAY {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let event = Event {
            type_: if announcement.warning { EventType::Warning } else { EventType::Normal },
            reason: announcement.reason,
            note: Some(announcement.note.chars().take(NOTE).collect()),
            action: announcement.action.to_owned(),
            secondary: None,
        };
        let announcer = self.clone();
        tasks.spawn(async move {
            if let Err(error) = announcer.recorder.publish(&event, &reference).await {
                tracing::debug!(error = %chain(&error), "an Event can't be written");
            }
            announcer.under_way.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Step;
    use fedistio_crds::CopyReason;

    fn verdict(state: CopyState, reason: CopyReason) -> Verdict {
        Verdict { step: Step::Rest, state, reason, message: "m".to_owned() }
    }

    #[test]
    fn a_failure_is_announced_once() {
        let failed = verdict(CopyState::Failed, CopyReason::Invalid);
        let good = verdict(CopyState::InSync, CopyReason::Applied);
        assert_eq!(news("a", None, &good), None);
        let first = news("a", Some(&good), &failed).unwrap();
        assert!(first.warning && first.note.contains("a: m"));
        assert_eq!(news("a", Some(&failed), &failed), None);
        let other = verdict(CopyState::Failed, CopyReason::Conflict);
        assert!(news("a", Some(&failed), &other).is_some());
    }
}
