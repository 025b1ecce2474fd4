use super::*;
use proptest::prelude::*;
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn strategy(stages: serde_json::Value) -> RolloutStrategySpec {
    serde_json::from_value(json!({"stages": stages})).unwrap()
}

fn two_stages() -> RolloutStrategySpec {
    strategy(json!([
        {"name": "canary", "clusters": [{"name": "a"}], "progressDeadline": "60s"},
        {"name": "rest", "clusterSelector": {"matchLabels": {"env": "prod"}}, "progressDeadline": "60s", "maxConcurrency": 1},
    ]))
}

fn cluster(current: Option<&str>, started: i64, health: Health) -> RolloutCluster {
    RolloutCluster {
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        current: current.map(str::to_owned),
        started: Some(at(started)),
        health,
    }
}

fn healthy(revision: &str) -> RolloutCluster {
    cluster(Some(revision), 0, Health::Healthy(at(0)))
}

fn run(
    strategy: Option<&RolloutStrategySpec>,
    clusters: Vec<(&str, RolloutCluster)>,
    promoted: Option<&str>,
    now: i64,
) -> RolloutDecision {
    let clusters = clusters.into_iter().map(|(name, cluster)| (name.to_owned(), cluster)).collect();
    decide(&RolloutInput { strategy, clusters: &clusters, target: "new", promoted, now: at(now) })
}

fn revisions(decision: &RolloutDecision) -> Vec<&str> {
    decision.assignments.values().map(|one| one.revision.as_deref().unwrap_or("-")).collect()
}

fn states(decision: &RolloutDecision) -> Vec<StageState> {
    decision.stages.iter().map(|stage| stage.state).collect()
}

#[test]
fn without_a_strategy_all_get_the_newest() {
    let decision = run(None, vec![("a", healthy("old")), ("b", healthy("new"))], Some("old"), 1);
    assert_eq!(revisions(&decision), ["new", "new"]);
    assert!(!decision.done && decision.stages.is_empty());
    assert!(run(None, vec![("a", healthy("new"))], None, 1).done);
}

#[test]
fn stages_follow_one_another() {
    let stages = two_stages();
    let all_old = || vec![("a", healthy("old")), ("b", healthy("old")), ("c", healthy("old"))];
    let decision = run(Some(&stages), all_old(), Some("old"), 1);
    assert_eq!(revisions(&decision), ["new", "old", "old"]);
    assert_eq!(states(&decision), [StageState::Progressing, StageState::Waiting]);
    assert_eq!(decision.current_stage, "canary");
    assert_eq!(decision.assignments["b"].held_by, "waiting for stage canary");

    let mut clusters = all_old();
    clusters[0].1 = cluster(Some("new"), 10, Health::Progressing);
    let decision = run(Some(&stages), clusters, Some("old"), 20);
    assert_eq!(revisions(&decision), ["new", "old", "old"]);
    assert_eq!(decision.wake_at, Some(at(70)));

    let mut clusters = all_old();
    clusters[0].1 = healthy("new");
    let decision = run(Some(&stages), clusters, Some("old"), 20);
    assert_eq!(revisions(&decision), ["new", "new", "old"], "one at a time");
    assert_eq!(decision.current_stage, "rest");

    let decision = run(
        Some(&stages),
        vec![("a", healthy("new")), ("b", healthy("new")), ("c", healthy("new"))],
        Some("old"),
        20,
    );
    assert!(decision.done);
    assert_eq!((decision.current_stage.as_str(), states(&decision)), ("", vec![StageState::Succeeded; 2]));
}

#[test]
fn a_failure_or_a_deadline_stops_the_stage_and_all_later_ones() {
    let stages = two_stages();
    for (health, now, part) in [
        (Health::Failed("bad values".to_owned()), 1, "bad values"),
        (Health::Progressing, 60, "not healthy within 1m of its start"),
    ] {
        let clusters = vec![("a", cluster(Some("new"), 0, health)), ("b", healthy("old"))];
        let decision = run(Some(&stages), clusters, Some("old"), now);
        assert_eq!(revisions(&decision), ["new", "old"]);
        assert_eq!(states(&decision), [StageState::Stopped, StageState::Waiting]);
        assert_eq!(decision.assignments["a"].overdue, now == 60);
        assert!(decision.stopped.as_ref().unwrap().contains(part), "{:?}", decision.stopped);
        assert!(decision.assignments["b"].stopped && decision.assignments["b"].held_by.contains(part));
    }
}

#[test]
fn a_person_that_is_waited_for_has_no_deadline() {
    let clusters =
        vec![("a", cluster(Some("new"), 0, Health::Waiting("restart".to_owned()))), ("b", healthy("old"))];
    let decision = run(Some(&two_stages()), clusters, Some("old"), 100_000);
    assert_eq!(states(&decision), [StageState::Progressing, StageState::Waiting]);
    assert!(decision.stages[0].message.contains("a: restart"));
}

#[test]
fn success_has_to_last() {
    let stages = strategy(json!([
        {"name": "canary", "clusters": [{"name": "a"}], "minSuccessTime": "30s"}, {"name": "rest", "clusterSelector": {}}]));
    let clusters = || vec![("a", cluster(Some("new"), 0, Health::Healthy(at(10)))), ("b", healthy("old"))];
    let decision = run(Some(&stages), clusters(), Some("old"), 39);
    assert_eq!(revisions(&decision), ["new", "old"]);
    assert_eq!((states(&decision)[0], decision.wake_at), (StageState::Soaking, Some(at(40))));
    assert_eq!(revisions(&run(Some(&stages), clusters(), Some("old"), 40)), ["new", "new"]);
}

#[test]
fn new_clusters_get_the_promoted_revision_and_wait_where_there_is_none() {
    let stages = two_stages();
    let new = || cluster(None, 0, Health::Progressing);
    let clusters = || vec![("a", cluster(Some("new"), 0, Health::Progressing)), ("b", new())];
    assert_eq!(revisions(&run(Some(&stages), clusters(), Some("old"), 1)), ["new", "old"]);
    assert_eq!(revisions(&run(Some(&stages), clusters(), None, 1)), ["new", "-"]);
    assert_eq!(
        revisions(&run(Some(&stages), vec![("a", new()), ("b", new()), ("c", new())], Some("new"), 1)),
        ["new", "new", "new"],
        "what is promoted needs no stages"
    );
}

#[test]
fn clusters_in_no_stage_come_last() {
    let stages = strategy(json!([{"name": "canary", "clusters": [{"name": "b"}]}]));
    let decision = run(Some(&stages), vec![("a", healthy("old")), ("b", healthy("old"))], Some("old"), 1);
    assert_eq!(revisions(&decision), ["old", "new"]);
    assert_eq!(decision.stages[1].name, LAST_STAGE);
    let decision = run(Some(&stages), vec![("a", healthy("old")), ("b", healthy("new"))], Some("old"), 1);
    assert_eq!(revisions(&decision), ["new", "new"]);
}

#[test]
fn a_newer_revision_starts_over_and_an_older_one_is_a_rollback() {
    let stages = two_stages();
    // The canary failed on "bad"; "new" fixes it.
    let failed = cluster(Some("bad"), 0, Health::Failed("x".to_owned()));
    let decision = run(Some(&stages), vec![("a", failed.clone()), ("b", healthy("old"))], Some("old"), 1);
    assert_eq!(revisions(&decision), ["new", "old"]);
    // The spec goes back to what is promoted: the canary follows at once.
    let decision = run(Some(&stages), vec![("a", failed), ("b", healthy("new"))], Some("new"), 1);
    assert_eq!(revisions(&decision), ["new", "new"]);
}

fn any_cluster() -> impl Strategy<Value = RolloutCluster> {
    let health = prop_oneof![
        (0..100i64).prop_map(|second| Health::Healthy(at(second))),
        Just(Health::Progressing),
        Just(Health::Waiting("w".to_owned())),
        Just(Health::Failed("f".to_owned())),
    ];
    (
        proptest::option::of(prop_oneof![Just("old"), Just("new"), Just("bad")]),
        0..100i64,
        health,
        any::<bool>(),
    )
        .prop_map(|(current, started, health, prod)| RolloutCluster {
            labels: if prod { [("env".to_owned(), "prod".to_owned())].into() } else { BTreeMap::new() },
            ..cluster(current, started, health)
        })
}

proptest! {
    #[test]
    fn no_stage_starts_before_the_ones_before_it_are_healthy(
        clusters in proptest::collection::btree_map("[a-f]", any_cluster(), 1..6),
        now in 0..200i64,
    ) {
        let stages = two_stages();
        let input = RolloutInput { strategy: Some(&stages), clusters: &clusters, target: "new", promoted: Some("old"), now: at(now) };
        let decision = decide(&input);
        prop_assert_eq!(decision.assignments.len(), clusters.len());
        let mut earlier_done = true;
        for stage in &decision.stages {
            let on_target = |name: &String| clusters[name].current.as_deref() == Some("new");
            let starts = stage.clusters.iter()
                .filter(|name| !on_target(name) && decision.assignments[*name].revision.as_deref() == Some("new")).count();
            prop_assert!(earlier_done || starts == 0, "{:?}", decision);
            if stage.name == "rest" {
                let busy = stage.clusters.iter()
                    .filter(|name| on_target(name) && !matches!(clusters[*name].health, Health::Healthy(_))).count();
                prop_assert!(starts == 0 || starts + busy <= 1);
            }
            earlier_done &= stage.clusters.iter()
                .all(|name| on_target(name) && matches!(clusters[name].health, Health::Healthy(_)));
            prop_assert_eq!(stage.state == StageState::Succeeded, stage.clusters.iter()
                .all(|name| on_target(name) && matches!(clusters[name].health, Health::Healthy(_))));
        }
        for (name, cluster) in clusters.iter().filter(|(_, cluster)| cluster.current.as_deref() == Some("new")) {
            prop_assert_eq!(&decision.assignments[name].revision, &cluster.current);
        }
        prop_assert_eq!(decision.done, decision.stages.iter().all(|stage| stage.state == StageState::Succeeded));
    }
}
