//! The status that a kubelet would report of a pod. Pure.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What is known of a pod's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// They run.
    Running {
        /// Whether they are ready to serve.
        ready: bool,
    },
    /// They have done their work.
    Completed,
    /// They cannot start: the reason and message of the waiting state.
    Waiting {
        /// For example `ImagePullBackOff`.
        reason: String,
        /// What is wrong and what to do.
        message: String,
    },
}

/// A pod's facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// The state of its containers.
    pub(super) state: State,
    /// How often they were started again.
    pub(super) restarts: i32,
    /// The pod's address.
    pub(super) ip: String,
}

/// A pod that runs to its end, rather than for ever.
pub(super) fn completes(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).is_some_and(|policy| policy != "Always")
}

/// The status to report, or `None` when the pod has it already.
pub(super) fn report(pod: &Pod, facts: &Facts, now: &Time) -> Option<PodStatus> {
    let empty = PodStatus::default();
    let old = pod.status.as_ref().unwrap_or(&empty);
    let new = desired(pod, old, facts, now);
    (signature(old) != signature(&new)).then_some(new)
}

fn desired(pod: &Pod, old: &PodStatus, facts: &Facts, now: &Time) -> PodStatus {
    let spec = pod.spec.clone().unwrap_or_default();
    let started = old.start_time.clone().unwrap_or_else(|| now.clone());
    let waiting = matches!(facts.state, State::Waiting { .. });
    let ready = facts.state == (State::Running { ready: true });
    let statuses = |containers: &[Container], old: Option<&Vec<ContainerStatus>>, init: bool| {
        containers
            .iter()
            .map(|container| container_status(container, old, facts, now, init))
            .collect::<Vec<_>>()
    };
    let init = spec.init_containers.unwrap_or_default();
    // A pod with gates is ready when whoever owns each gate has said so.
    let gates =
        spec.readiness_gates.iter().flatten().all(|gate| condition_is_true(old, &gate.condition_type));
    let mut status = PodStatus {
        phase: Some(
            match facts.state {
                State::Running { .. } => "Running",
                State::Completed => "Succeeded",
                State::Waiting { .. } => "Pending",
            }
            .to_owned(),
        ),
        host_ip: Some("127.0.0.1".to_owned()),
        pod_ip: Some(facts.ip.clone()),
        pod_ips: Some(vec![PodIP { ip: facts.ip.clone() }]),
        start_time: Some(started),
        init_container_statuses: (!init.is_empty())
            .then(|| statuses(&init, old.init_container_statuses.as_ref(), true)),
        container_statuses: Some(statuses(&spec.containers, old.container_statuses.as_ref(), false)),
        conditions: old.conditions.clone(),
        qos_class: old.qos_class.clone(),
        ..PodStatus::default()
    };
    let completed = facts.state == State::Completed;
    for (kind, value) in [
        ("PodReadyToStartContainers", !completed),
        ("Initialized", !waiting || init.is_empty()),
        ("Ready", ready && gates),
        ("ContainersReady", ready),
        ("PodScheduled", true),
    ] {
        set_condition(&mut status, kind, value, completed, now);
    }
    status
}

fn container_status(
    container: &Container,
    old: Option<&Vec<ContainerStatus>>,
    facts: &Facts,
    now: &Time,
    init: bool,
) -> ContainerStatus {
    // An init container that restarts always is a sidecar: it runs beside the others.
    let sidecar = container.restart_policy.as_deref() == Some("Always");
    let before = old.into_iter().flatten().find(|status| status.name == container.name);
    let since = before
        .filter(|status| status.restart_count == facts.restarts)
        .and_then(|status| status.state.as_ref()?.running.as_ref()?.started_at.clone())
        .unwrap_or_else(|| now.clone());
    let ended = |started: Time| ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 0,
            reason: Some("Completed".to_owned()),
            started_at: Some(started),
            finished_at: Some(now.clone()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let (state, ready, running) = match &facts.state {
        State::Waiting { reason, message } => {
            let waiting =
                ContainerStateWaiting { reason: Some(reason.clone()), message: Some(message.clone()) };
            (ContainerState { waiting: Some(waiting), ..ContainerState::default() }, false, false)
        }
        State::Running { .. } if init && !sidecar => (ended(since), true, false),
        State::Completed => (ended(since), false, false),
        State::Running { ready } => {
            let running = ContainerStateRunning { started_at: Some(since) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, *ready, true)
        }
    };
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: if running { image.clone() } else { String::new() },
        container_id: running.then(|| format!("testbed://{}", container.name)),
        image,
        ready,
        restart_count: if init && !sidecar { 0 } else { facts.restarts },
        started: Some(running),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

fn condition_is_true(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn set_condition(status: &mut PodStatus, kind: &str, value: bool, completed: bool, now: &Time) {
    let conditions = status.conditions.get_or_insert_default();
    let text = if value { "True" } else { "False" };
    let reason = match (value, completed, kind) {
        (false, true, _) => Some("PodCompleted"),
        (false, false, "Ready" | "ContainersReady") => Some("ContainersNotReady"),
        (false, false, "Initialized") => Some("ContainersNotInitialized"),
        _ => None,
    };
    let condition = PodCondition {
        type_: kind.to_owned(),
        status: text.to_owned(),
        reason: reason.map(str::to_owned),
        last_transition_time: Some(now.clone()),
        ..PodCondition::default()
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(old) if old.status == text => old.reason = condition.reason,
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}

/// What makes two reports different: everything but times.
fn signature(status: &PodStatus) -> Vec<String> {
    let mut parts = vec![format!("{:?} {:?}", status.phase, status.pod_ip)];
    parts.extend(
        status.conditions.iter().flatten().map(|c| format!("{}={} {:?}", c.type_, c.status, c.reason)),
    );
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    parts.extend(containers.map(|container| {
        let state = container.state.as_ref();
        let waiting = state.and_then(|state| state.waiting.as_ref());
        format!(
            "{} {} {} {:?} {:?} {}",
            container.name,
            container.ready,
            container.restart_count,
            waiting.map(|waiting| (&waiting.reason, &waiting.message)),
            state.is_some_and(|state| state.running.is_some()),
            state.is_some_and(|state| state.terminated.is_some()),
        )
    }));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {
                "restartPolicy": "Always",
                "readinessGates": [{"conditionType": "gate"}],
                "initContainers": [
                    {"name": "istio-init", "image": "i"},
                    {"name": "istio-proxy", "image": "p", "restartPolicy": "Always"}
                ],
                "containers": [{"name": "c", "image": "x"}]
            }
        }))
        .unwrap()
    }

    fn now() -> Time {
        Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
    }

    fn facts(state: State) -> Facts {
        Facts { state, restarts: 0, ip: "10.244.0.1".into() }
    }

    #[test]
    fn running_is_reported_once_and_gates_hold_ready() {
        let mut pod = pod();
        let running = facts(State::Running { ready: true });
        let status = report(&pod, &running, &now()).unwrap();
        assert!(!condition_is_true(&status, "Ready"), "the gate is shut");
        assert!(condition_is_true(&status, "ContainersReady"));
        let init = status.init_container_statuses.as_ref().unwrap();
        assert!(init[0].state.as_ref().unwrap().terminated.is_some());
        assert!(init[1].state.as_ref().unwrap().running.is_some(), "a sidecar keeps running");
        pod.status = Some(status);
        assert_eq!(report(&pod, &running, &now()), None);
        let gate = json!({"type": "gate", "status": "True"});
        pod.status.as_mut().unwrap().conditions.as_mut().unwrap().push(serde_json::from_value(gate).unwrap());
        let status = report(&pod, &running, &now()).unwrap();
        assert!(condition_is_true(&status, "Ready"));
        assert!(condition_is_true(&status, "gate"), "the gate's own condition stays");
    }

    #[test]
    fn waiting_and_completed() {
        let waiting = State::Waiting { reason: "ImagePullBackOff".into(), message: "none".into() };
        let status = report(&pod(), &facts(waiting), &now()).unwrap();
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(
            container.state.as_ref().unwrap().waiting.as_ref().unwrap().reason.as_deref(),
            Some("ImagePullBackOff")
        );
        let status = report(&pod(), &facts(State::Completed), &now()).unwrap();
        assert_eq!(status.phase.as_deref(), Some("Succeeded"));
        assert_eq!(
            status.container_statuses.unwrap()[0]
                .state
                .as_ref()
                .unwrap()
                .terminated
                .as_ref()
                .unwrap()
                .exit_code,
            0
        );
    }
}
