//! Plans one copy: one object in one cluster. Pure.

use fedistio_crds::{CopyReason, CopyState};
use std::time::Duration;
use tokio::time::Instant;

/// What the federated object wants of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A copy with this hash.
    Copy {
        /// Hash of the manifest.
        hash: u64,
    },
    /// A copy, but its manifest can't be made: the old one stays as it is.
    Broken {
        /// Why.
        reason: CopyReason,
        /// What to do.
        message: String,
    },
    /// No copy, though the cluster is selected: a constraint keeps it out.
    Excluded {
        /// Which constraint and what was found.
        message: String,
    },
    /// Nobody can say yet; what is there stays.
    Undecided {
        /// What is waited for.
        message: String,
    },
    /// No copy.
    Nothing,
}

/// What is known of the watch through which copies of the type are seen in the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchState {
    /// Not all copies have been seen yet.
    #[default]
    Waiting,
    /// All copies have been seen.
    Synced,
    /// The cluster does not serve the type.
    NotServed(String),
    /// The watch fails.
    Failed(String),
}

/// The copy as it was seen last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// UID of the object.
    pub uid: Box<str>,
    /// Version in etcd.
    pub resource_version: u64,
    /// The hash in its annotation.
    pub hash: Option<u64>,
    /// Did we own every desired field when it was seen? Meaningful where the hash is the wanted one.
    pub covered: bool,
    /// Is it being deleted?
    pub deleting: bool,
}

/// A write that is queued or under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// An apply of the manifest with this hash.
    Apply(u64),
    /// A deletion.
    Delete,
}

/// The last write failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: CopyReason,
    /// What the server said, and what to do.
    pub message: String,
    /// What was tried: another wanted hash is tried at once.
    pub tried: InFlight,
    /// Not before then.
    pub retry_at: Instant,
}

/// Everything that the plan of one copy depends on.
#[derive(Clone, Debug)]
pub struct CopyInput<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// Is the cluster registered?
    pub registered: bool,
    /// Is it ready? With the reason where not.
    pub ready: Result<(), &'a str>,
    /// Is everything seen that is there?
    pub watch: &'a WatchState,
    /// The copy as it was seen last.
    pub seen: Option<&'a Seen>,
    /// The write under way.
    pub in_flight: Option<InFlight>,
    /// The failure of the last write.
    pub failure: Option<&'a Failure>,
    /// A drifted copy is not put right before then.
    pub hold_until: Option<Instant>,
    /// How much longer a removal may wait for a cluster that does not answer; none: for ever.
    pub patience: Option<Duration>,
    /// The time.
    pub now: Instant,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do: the copy is as wanted, or must not or need not be touched now.
    Rest,
    /// Send the manifest. `force` where the copy is known to be ours.
    Apply {
        /// Take fields over from other managers.
        force: bool,
        /// Is it to put right what somebody else changed?
        drift: bool,
    },
    /// Delete it.
    Delete,
    /// Look again then.
    Wait(Duration),
    /// There is no copy and none is wanted: drop the cluster from the ledger.
    Forget,
    /// The cluster has not answered for as long as the user would wait: drop it from the ledger, whatever is there.
    Release,
}

/// What to do, and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do next.
    pub step: Step,
    /// State for the status.
    pub state: CopyState,
    /// Reason for the status.
    pub reason: CopyReason,
    /// Message for the status.
    pub message: String,
}

impl Verdict {
    fn new(step: Step, state: CopyState, reason: CopyReason, message: impl Into<String>) -> Self {
        Self { step, state, reason, message: message.into() }
    }
}

/// Plans one copy.
///
/// Never writes to a cluster whose copies have not all been seen: a restart must not write what is there already.
/// A failed write is tried again when its time has come, or at once when something else is wanted.
pub fn plan_copy(input: &CopyInput<'_>) -> Verdict {
    match input.wanted {
        Wanted::Copy { hash } => plan_wanted(input, *hash),
        Wanted::Broken { reason, message } => {
            Verdict::new(Step::Rest, CopyState::Failed, *reason, message.as_str())
        }
        Wanted::Undecided { message } => {
            Verdict::new(Step::Rest, CopyState::Pending, CopyReason::ClusterNotReady, message.as_str())
        }
        // Still selected, so it stays in the status whatever happens: nothing to release.
        Wanted::Excluded { message } => match plan_removal(&CopyInput { patience: None, ..input.clone() }) {
            Verdict { step: Step::Forget, .. } => {
                Verdict::new(Step::Rest, CopyState::Excluded, CopyReason::ConstraintNotMet, message.as_str())
            }
            removal => removal,
        },
        Wanted::Nothing => plan_removal(input),
    }
}

fn plan_wanted(input: &CopyInput<'_>, hash: u64) -> Verdict {
    use {CopyReason as Reason, CopyState as State};
    if !input.registered {
        let message = "no MemberCluster of this name; join the cluster or correct the placement";
        return Verdict::new(Step::Rest, State::Failed, Reason::ClusterNotFound, message);
    }
    let in_sync = input.seen.is_some_and(|seen| seen.hash == Some(hash) && seen.covered && !seen.deleting);
    if let Err(why) = input.ready {
        let message = if in_sync { format!("in sync when last seen; {why}") } else { why.to_owned() };
        // What is queued waits in the member's worker; something newer takes its place there when the member is back.
        return Verdict::new(Step::Rest, State::Pending, Reason::ClusterNotReady, message);
    }
    match input.watch {
        WatchState::Waiting => {
            return Verdict::new(
                Step::Rest,
                State::Pending,
                Reason::Applying,
                "the cluster's copies are being listed",
            );
        }
        WatchState::NotServed(why) => {
            let message = format!(
                "{why}; install the type's CRD in the cluster, or leave the cluster out of the placement"
            );
            return Verdict::new(Step::Rest, State::Failed, Reason::TypeNotServed, message);
        }
        WatchState::Failed(why) if input.seen.is_none() => {
            return Verdict::new(
                Step::Rest,
                State::Pending,
                Reason::ClusterNotReady,
                format!("copies can't be watched: {why}"),
            );
        }
        WatchState::Synced | WatchState::Failed(_) => {}
    }
    if in_sync {
        return Verdict::new(Step::Rest, State::InSync, Reason::Applied, "");
    }
    if input.in_flight == Some(InFlight::Apply(hash)) {
        return Verdict::new(Step::Rest, State::Pending, Reason::Applying, "");
    }
    if input.seen.is_some_and(|seen| seen.deleting) {
        let message = "the copy is being deleted; it is made anew when it is gone";
        return Verdict::new(Step::Rest, State::Pending, Reason::WaitingForRemoval, message);
    }
    if let Some(failure) = input.failure.filter(|failure| failure.tried == InFlight::Apply(hash))
        && failure.retry_at > input.now
    {
        let wait = Step::Wait(failure.retry_at - input.now);
        return Verdict::new(wait, State::Failed, failure.reason, failure.message.as_str());
    }
    let drift = input.seen.is_some_and(|seen| seen.hash == Some(hash));
    if let Some(hold) = input.hold_until.filter(|hold| drift && *hold > input.now) {
        let message = "somebody else changes the same fields again and again; the next correction waits";
        return Verdict::new(Step::Wait(hold - input.now), State::Failed, Reason::Conflict, message);
    }
    let step = Step::Apply { force: input.seen.is_some(), drift };
    match input.failure.filter(|failure| failure.tried == InFlight::Apply(hash)) {
        // A retry does not hide what is wrong until it has succeeded.
        Some(failure) => Verdict::new(step, State::Failed, failure.reason, failure.message.as_str()),
        None => Verdict::new(step, State::Pending, Reason::Applying, ""),
    }
}

fn plan_removal(input: &CopyInput<'_>) -> Verdict {
    use {CopyReason as Reason, CopyState as State};
    let forget = Verdict::new(Step::Forget, State::Removing, Reason::WaitingForRemoval, "");
    if !input.registered {
        // An unregistered cluster can't be written to: what is there was released when it was taken out of the registry.
        return forget;
    }
    let absent = input.seen.is_none() && input.in_flight.is_none();
    match input.watch {
        WatchState::Synced | WatchState::NotServed(_) if absent => return forget,
        WatchState::Waiting | WatchState::Failed(_) if input.ready.is_ok() && input.seen.is_none() => {
            let message = "waiting until the cluster's copies are listed";
            return Verdict::new(Step::Rest, State::Removing, Reason::WaitingForRemoval, message);
        }
        _ => {}
    }
    if let Err(why) = input.ready {
        return plan_unreachable_removal(input.patience, why);
    }
    if let Some(failure) = input.failure.filter(|failure| failure.tried == InFlight::Delete)
        && failure.retry_at > input.now
    {
        let wait = Step::Wait(failure.retry_at - input.now);
        return Verdict::new(wait, State::Failed, Reason::DeleteFailed, failure.message.as_str());
    }
    let waiting = input.in_flight == Some(InFlight::Delete) || input.seen.is_none_or(|seen| seen.deleting);
    let step = if waiting { Step::Rest } else { Step::Delete };
    Verdict::new(step, State::Removing, Reason::WaitingForRemoval, "")
}

fn plan_unreachable_removal(patience: Option<Duration>, why: &str) -> Verdict {
    let (step, message) = match patience {
        None => (
            Step::Rest,
            format!(
                "{why}; the copy is removed when the cluster answers, or released by `fedistio unjoin --force`"
            ),
        ),
        Some(Duration::ZERO) => {
            (Step::Release, format!("{why}, for longer than spec.deletion.unreachableTimeout"))
        }
        Some(wait) => (
            Step::Wait(wait),
            format!(
                "{why}; the copy is removed when the cluster answers, and given up after spec.deletion.unreachableTimeout"
            ),
        ),
    };
    Verdict::new(step, CopyState::Removing, CopyReason::ClusterNotReady, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: u64 = 7;

    fn seen(hash: u64, covered: bool) -> Seen {
        Seen { uid: "u".into(), resource_version: 1, hash: Some(hash), covered, deleting: false }
    }

    struct Case {
        wanted: Wanted,
        registered: bool,
        ready: Result<(), &'static str>,
        watch: WatchState,
        seen: Option<Seen>,
        in_flight: Option<InFlight>,
        failure: Option<Failure>,
        hold: Option<Duration>,
        patience: Option<Duration>,
    }

    impl Default for Case {
        fn default() -> Self {
            Self {
                wanted: Wanted::Copy { hash: HASH },
                registered: true,
                ready: Ok(()),
                watch: WatchState::Synced,
                seen: None,
                in_flight: None,
                failure: None,
                hold: None,
                patience: None,
            }
        }
    }

    fn plan(case: &Case) -> Verdict {
        let now = Instant::now();
        plan_copy(&CopyInput {
            wanted: &case.wanted,
            registered: case.registered,
            ready: case.ready,
            watch: &case.watch,
            seen: case.seen.as_ref(),
            in_flight: case.in_flight,
            failure: case.failure.as_ref(),
            hold_until: case.hold.map(|hold| now + hold),
            patience: case.patience,
            now,
        })
    }

    fn failure(tried: InFlight, seconds: u64) -> Option<Failure> {
        Some(Failure {
            reason: CopyReason::Invalid,
            message: "no".to_owned(),
            tried,
            retry_at: Instant::now() + Duration::from_secs(seconds),
        })
    }

    const CREATE: Step = Step::Apply { force: false, drift: false };

    #[test]
    fn a_missing_copy_is_made_without_force() {
        assert_eq!(plan(&Case::default()).step, CREATE);
    }

    #[test]
    fn a_copy_in_sync_is_left_alone() {
        let verdict = plan(&Case { seen: Some(seen(HASH, true)), ..Case::default() });
        assert_eq!((verdict.step, verdict.state), (Step::Rest, CopyState::InSync));
    }

    #[test]
    fn an_old_copy_is_updated_and_a_drifted_one_put_right() {
        let old = plan(&Case { seen: Some(seen(1, true)), ..Case::default() });
        assert_eq!(old.step, Step::Apply { force: true, drift: false });
        let drifted = Case { seen: Some(seen(HASH, false)), ..Case::default() };
        assert_eq!(plan(&drifted).step, Step::Apply { force: true, drift: true });
        let held = plan(&Case { hold: Some(Duration::from_secs(9)), ..drifted });
        assert!(matches!(held.step, Step::Wait(_)));
        assert_eq!(held.reason, CopyReason::Conflict);
    }

    #[test]
    fn nothing_is_written_before_everything_is_seen() {
        for wanted in [Wanted::Copy { hash: HASH }, Wanted::Nothing] {
            let verdict = plan(&Case { watch: WatchState::Waiting, wanted, ..Case::default() });
            assert_eq!(verdict.step, Step::Rest);
        }
    }

    #[test]
    fn a_failed_write_waits_unless_something_else_is_wanted() {
        let waiting = plan(&Case { failure: failure(InFlight::Apply(HASH), 9), ..Case::default() });
        assert!(matches!(waiting.step, Step::Wait(_)));
        assert_eq!(waiting.state, CopyState::Failed);
        assert_eq!(plan(&Case { failure: failure(InFlight::Apply(1), 9), ..Case::default() }).step, CREATE);
        let due = plan(&Case { failure: failure(InFlight::Apply(HASH), 0), ..Case::default() });
        assert_eq!((due.step, due.state), (CREATE, CopyState::Failed));
    }

    #[test]
    fn a_write_under_way_is_not_sent_twice() {
        assert_eq!(
            plan(&Case { in_flight: Some(InFlight::Apply(HASH)), ..Case::default() }).step,
            Step::Rest
        );
        assert_eq!(plan(&Case { in_flight: Some(InFlight::Apply(1)), ..Case::default() }).step, CREATE);
        let removing = Case {
            wanted: Wanted::Nothing,
            seen: Some(seen(HASH, true)),
            in_flight: Some(InFlight::Delete),
            ..Case::default()
        };
        assert_eq!(plan(&removing).step, Step::Rest);
    }

    #[test]
    fn a_cluster_leaves_the_ledger_only_when_its_copy_is_gone() {
        let unwanted = |case: Case| plan(&Case { wanted: Wanted::Nothing, ..case });
        assert_eq!(unwanted(Case::default()).step, Step::Forget);
        assert_eq!(unwanted(Case { seen: Some(seen(HASH, true)), ..Case::default() }).step, Step::Delete);
        let away = unwanted(Case { ready: Err("away"), watch: WatchState::Waiting, ..Case::default() });
        assert_eq!((away.step, away.state), (Step::Rest, CopyState::Removing));
        assert!(away.message.contains("away"));
        let applying = unwanted(Case { in_flight: Some(InFlight::Apply(HASH)), ..Case::default() });
        assert_ne!(applying.step, Step::Forget);
        assert_eq!(
            unwanted(Case { registered: false, ready: Err("x"), ..Case::default() }).step,
            Step::Forget
        );
        let deleting = Seen { deleting: true, ..seen(HASH, true) };
        assert_eq!(unwanted(Case { seen: Some(deleting), ..Case::default() }).step, Step::Rest);
    }

    #[test]
    fn a_removal_waits_for_a_cluster_that_is_away_as_long_as_the_user_says() {
        let away = |patience| {
            plan(&Case {
                wanted: Wanted::Nothing,
                seen: Some(seen(HASH, true)),
                ready: Err("away"),
                patience,
                ..Case::default()
            })
        };
        assert_eq!(away(None).step, Step::Rest);
        assert_eq!(away(Some(Duration::from_secs(7))).step, Step::Wait(Duration::from_secs(7)));
        assert_eq!(away(Some(Duration::ZERO)).step, Step::Release);
        // A cluster that answers is never given up.
        let there = Case {
            wanted: Wanted::Nothing,
            seen: Some(seen(HASH, true)),
            patience: Some(Duration::ZERO),
            ..Case::default()
        };
        assert_eq!(plan(&there).step, Step::Delete);
        for wanted in [Wanted::Copy { hash: HASH }, Wanted::Excluded { message: "too old".to_owned() }] {
            let selected = Case {
                wanted,
                seen: Some(seen(HASH, true)),
                ready: Err("away"),
                patience: Some(Duration::ZERO),
                ..Case::default()
            };
            assert_eq!(plan(&selected).step, Step::Rest);
        }
    }

    #[test]
    fn a_constraint_removes_the_copy_and_stays_visible() {
        let excluded = Wanted::Excluded { message: "too old".to_owned() };
        let there = plan(&Case { wanted: excluded.clone(), seen: Some(seen(HASH, true)), ..Case::default() });
        assert_eq!(there.step, Step::Delete);
        let gone = plan(&Case { wanted: excluded, ..Case::default() });
        assert_eq!((gone.step, gone.state), (Step::Rest, CopyState::Excluded));
    }

    #[test]
    fn an_unready_or_unknown_cluster_and_a_missing_type_are_reported() {
        let away = plan(&Case { ready: Err("away"), ..Case::default() });
        assert_eq!((away.step, away.reason), (Step::Rest, CopyReason::ClusterNotReady));
        let unknown = plan(&Case { registered: false, ..Case::default() });
        assert_eq!((unknown.state, unknown.reason), (CopyState::Failed, CopyReason::ClusterNotFound));
        let not_served = plan(&Case { watch: WatchState::NotServed("404".to_owned()), ..Case::default() });
        assert_eq!((not_served.state, not_served.reason), (CopyState::Failed, CopyReason::TypeNotServed));
    }
}
