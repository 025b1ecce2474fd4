use super::*;
use proptest::prelude::*;

const OLD: &str = "1-28-2";
const NEW: &str = "1-29-1";

fn installed(list: &[(&str, bool)]) -> BTreeMap<String, Readiness> {
    list.iter()
        .map(|(name, ready)| {
            let readiness = if *ready { Readiness::Ready } else { Readiness::NotReady("0 of 1".to_owned()) };
            ((*name).to_owned(), readiness)
        })
        .collect()
}

fn proxies(list: &[(&str, u32)]) -> BTreeMap<String, u32> {
    list.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

/// One row: what is installed, where the tag is, proxies, restart asked, applied → phase, tag afterwards, kept.
struct Row {
    installed: &'static [(&'static str, bool)],
    tag: Option<&'static str>,
    proxies: Option<&'static [(&'static str, u32)]>,
    restart: bool,
    applied: bool,
    expected: (Phase, Reason, Option<&'static str>, &'static [&'static str]),
}

const ROWS: &[Row] = &[
    // A fresh install: nothing, applied but not ready, ready, tagged.
    Row {
        installed: &[],
        tag: None,
        proxies: None,
        restart: false,
        applied: false,
        expected: (Phase::Installing, Reason::Applying, None, &[]),
    },
    Row {
        installed: &[(NEW, false)],
        tag: None,
        proxies: None,
        restart: false,
        applied: true,
        expected: (Phase::WaitingForIstiod, Reason::IstiodNotReady, None, &[]),
    },
    Row {
        installed: &[(NEW, true)],
        tag: None,
        proxies: None,
        restart: false,
        applied: true,
        expected: (Phase::MovingTag, Reason::Applying, Some(NEW), &[]),
    },
    Row {
        installed: &[(NEW, true)],
        tag: Some(NEW),
        proxies: None,
        restart: false,
        applied: true,
        expected: (Phase::Healthy, Reason::Healthy, Some(NEW), &[]),
    },
    // An upgrade beside the old revision.
    Row {
        installed: &[(OLD, true)],
        tag: Some(OLD),
        proxies: Some(&[(OLD, 3)]),
        restart: true,
        applied: false,
        expected: (Phase::Installing, Reason::Applying, Some(OLD), &[OLD]),
    },
    Row {
        installed: &[(OLD, true), (NEW, false)],
        tag: Some(OLD),
        proxies: Some(&[(OLD, 3)]),
        restart: true,
        applied: true,
        expected: (Phase::WaitingForIstiod, Reason::IstiodNotReady, Some(OLD), &[OLD]),
    },
    Row {
        installed: &[(OLD, true), (NEW, true)],
        tag: Some(OLD),
        proxies: Some(&[(OLD, 3)]),
        restart: true,
        applied: true,
        expected: (Phase::MovingTag, Reason::Applying, Some(NEW), &[OLD]),
    },
    Row {
        installed: &[(OLD, true), (NEW, true)],
        tag: Some(NEW),
        proxies: Some(&[(OLD, 3)]),
        restart: true,
        applied: true,
        expected: (Phase::MovingWorkloads, Reason::ProxiesOnOldRevision, Some(NEW), &[OLD]),
    },
    Row {
        installed: &[(OLD, true), (NEW, true)],
        tag: Some(NEW),
        proxies: Some(&[(OLD, 3)]),
        restart: false,
        applied: true,
        expected: (Phase::MovingWorkloads, Reason::RestartNeeded, Some(NEW), &[OLD]),
    },
    Row {
        installed: &[(OLD, true), (NEW, true)],
        tag: Some(NEW),
        proxies: None,
        restart: true,
        applied: true,
        expected: (Phase::MovingWorkloads, Reason::ProxiesOnOldRevision, Some(NEW), &[OLD]),
    },
    Row {
        installed: &[(OLD, true), (NEW, true)],
        tag: Some(NEW),
        proxies: Some(&[(NEW, 3)]),
        restart: true,
        applied: true,
        expected: (Phase::RemovingOldRevision, Reason::Removing, Some(NEW), &[]),
    },
    // The tag stays where it is when its revision is not ready for a while.
    Row {
        installed: &[(NEW, false)],
        tag: Some(NEW),
        proxies: Some(&[]),
        restart: true,
        applied: true,
        expected: (Phase::WaitingForIstiod, Reason::IstiodNotReady, Some(NEW), &[]),
    },
];

#[test]
fn an_upgrade_goes_through_its_phases_in_order() {
    for (number, row) in ROWS.iter().enumerate() {
        let installed = installed(row.installed);
        let proxies = row.proxies.map(proxies);
        let facts = Facts {
            wanted: NEW,
            installed: &installed,
            tag: row.tag,
            proxies: proxies.as_ref(),
            restart_workloads: row.restart,
            phase: None,
        };
        let step = decide(&facts, if row.applied { Ok(()) } else { Err("2 objects are missing") });
        let kept: BTreeSet<String> = row.expected.3.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            (step.phase, step.reason, step.tag.as_deref(), &step.keep),
            (row.expected.0, row.expected.1, row.expected.2, &kept),
            "row {number}"
        );
        assert_eq!(step.restart.is_empty(), step.reason != Reason::ProxiesOnOldRevision || proxies.is_none());
    }
}

#[test]
fn setting_the_version_back_moves_the_tag_back_and_removes_the_new_one() {
    let installed = installed(&[(OLD, true), (NEW, false)]);
    let both = proxies(&[(NEW, 1), (OLD, 2)]);
    let facts = Facts {
        wanted: OLD,
        installed: &installed,
        tag: Some(NEW),
        proxies: Some(&both),
        restart_workloads: true,
        phase: None,
    };
    assert_eq!(decide(&facts, Ok(())).tag.as_deref(), Some(OLD));
    let facts = Facts { tag: Some(OLD), ..facts };
    assert_eq!(decide(&facts, Ok(())).restart, [NEW.to_owned()].into());
    let old_only = proxies(&[(OLD, 3)]);
    let facts = Facts { proxies: Some(&old_only), ..facts };
    let step = decide(&facts, Ok(()));
    assert_eq!((step.phase, step.keep.len()), (Phase::RemovingOldRevision, 0));
}

fn any_readiness() -> impl Strategy<Value = Readiness> {
    prop_oneof![
        Just(Readiness::Ready),
        Just(Readiness::NotReady("no".to_owned())),
        Just(Readiness::Unknown("unknown".to_owned()))
    ]
}

fn any_phase() -> impl Strategy<Value = Option<Phase>> {
    prop_oneof![
        Just(None),
        Just(Some(Phase::Pending)),
        Just(Some(Phase::Installing)),
        Just(Some(Phase::MovingTag)),
        Just(Some(Phase::RemovingOldRevision)),
        Just(Some(Phase::Healthy)),
    ]
}

proptest! {
    #[test]
    fn the_tag_never_moves_to_an_unready_revision_and_no_used_revision_goes(
        installed in proptest::collection::btree_map("[a-d]", any_readiness(), 0..4),
        tag in proptest::option::of("[a-d]"),
        counts in proptest::option::of(proptest::collection::btree_map("[a-d]", 0u32..3, 0..4)),
        wanted in "[a-d]",
        restart: bool,
        applied: bool,
        said in any_phase(),
    ) {
        let facts = Facts {
            wanted: &wanted, installed: &installed, tag: tag.as_deref(), proxies: counts.as_ref(), restart_workloads: restart, phase: said,
        };
        let step = decide(&facts, if applied { Ok(()) } else { Err("missing") });
        if step.tag != tag {
            prop_assert_eq!(step.tag.as_deref(), Some(wanted.as_str()));
            prop_assert_eq!(installed.get(&wanted), Some(&Readiness::Ready));
            prop_assert!(applied);
        }
        for name in installed.keys().filter(|name| **name != wanted && !step.keep.contains(*name)) {
            // It goes: nothing can be on it, and everything it is replaced by is there.
            prop_assert_eq!(counts.as_ref().map(|counts| counts.get(name).copied().unwrap_or(0)), Some(0));
            prop_assert_eq!(tag.as_deref(), Some(wanted.as_str()));
            prop_assert_eq!(installed.get(&wanted), Some(&Readiness::Ready));
            prop_assert!(applied);
        }
        if step.phase == Phase::Healthy {
            prop_assert!(installed.len() == 1 && applied && tag.as_deref() == Some(wanted.as_str()));
        }
        prop_assert!(restart || step.restart.is_empty());
        prop_assert_eq!(no_earlier(step.phase, said), step.phase);
    }
}

/// A pass over an upgrade: what is installed, where the tag is, the proxies, what is missing → the phase.
struct Pass(
    &'static [(&'static str, bool)],
    Option<&'static str>,
    &'static [(&'static str, u32)],
    &'static str,
    (Phase, Reason),
);

#[test]
fn phases_only_go_forward_within_an_upgrade() {
    let both: &[(&str, bool)] = &[(OLD, true), (NEW, true)];
    let passes = [
        Pass(&[(OLD, true)], Some(OLD), &[(OLD, 2)], "CRDs", (Phase::Installing, Reason::Applying)),
        Pass(
            &[(OLD, true), (NEW, false)],
            Some(OLD),
            &[(OLD, 2)],
            "",
            (Phase::WaitingForIstiod, Reason::IstiodNotReady),
        ),
        Pass(both, Some(OLD), &[(OLD, 2)], "", (Phase::MovingTag, Reason::Applying)),
        // The tag is there, and what it brings is on its way.
        Pass(both, Some(NEW), &[(OLD, 2)], "two objects", (Phase::MovingTag, Reason::Applying)),
        Pass(both, Some(NEW), &[(OLD, 2)], "", (Phase::MovingWorkloads, Reason::ProxiesOnOldRevision)),
        // Somebody deletes an object, the new istiod fails for a moment, somebody deletes the tag.
        Pass(both, Some(NEW), &[(OLD, 1)], "an object", (Phase::MovingWorkloads, Reason::Applying)),
        Pass(
            &[(OLD, true), (NEW, false)],
            Some(NEW),
            &[(OLD, 1)],
            "",
            (Phase::MovingWorkloads, Reason::IstiodNotReady),
        ),
        Pass(both, None, &[(OLD, 1)], "", (Phase::MovingWorkloads, Reason::Applying)),
        Pass(both, Some(NEW), &[(NEW, 2)], "", (Phase::RemovingOldRevision, Reason::Removing)),
        Pass(both, Some(NEW), &[(NEW, 2)], "an object", (Phase::RemovingOldRevision, Reason::Applying)),
        Pass(&[(NEW, true)], Some(NEW), &[(NEW, 2)], "", (Phase::Healthy, Reason::Healthy)),
        // The upgrade is over: what is put right now is no part of it.
        Pass(&[(NEW, true)], Some(NEW), &[(NEW, 2)], "an object", (Phase::Installing, Reason::Applying)),
    ];
    let mut said = None;
    for (number, Pass(there, tag, counts, missing, expected)) in passes.into_iter().enumerate() {
        let (there, counts) = (installed(there), proxies(counts));
        let facts = Facts {
            wanted: NEW,
            installed: &there,
            tag,
            proxies: Some(&counts),
            restart_workloads: true,
            phase: said,
        };
        let step = decide(&facts, if missing.is_empty() { Ok(()) } else { Err(missing) });
        assert_eq!((step.phase, step.reason), expected, "pass {number}");
        let nothing_missing = complete(step.clone(), &facts, "");
        assert_eq!(nothing_missing, step);
        let late = complete(step.clone(), &facts, "an object of the tag");
        assert_eq!(no_earlier(late.phase, said), late.phase, "pass {number}");
        if matches!(step.reason, Reason::Healthy | Reason::Removing) {
            assert_eq!(late.reason, Reason::Applying, "pass {number}");
        }
        said = Some(step.phase);
    }
}
