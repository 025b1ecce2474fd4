//! Clusters on their way through the phases of an installation or an upgrade: a bar a cluster on a terminal, and a line for
//! every change, with the time since the start.

use crate::show;
use fedistio_crds::{ClusterControlPlane, ControlPlanePhase};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

/// The phases of an upgrade in their order; [`ControlPlanePhase::Healthy`] is the end.
const WAY: [ControlPlanePhase; 7] = [
    ControlPlanePhase::Pending,
    ControlPlanePhase::Installing,
    ControlPlanePhase::WaitingForIstiod,
    ControlPlanePhase::MovingTag,
    ControlPlanePhase::MovingWorkloads,
    ControlPlanePhase::RemovingOldRevision,
    ControlPlanePhase::Healthy,
];

/// How far along the way a phase is.
fn position(phase: ControlPlanePhase) -> u64 {
    WAY.iter().position(|step| *step == phase).and_then(|index| u64::try_from(index).ok()).unwrap_or(0)
}

/// A live display.
#[derive(Debug)]
pub(crate) struct Phases {
    started: Instant,
    bars: Option<MultiProgress>,
    clusters: BTreeMap<String, Cluster>,
}

#[derive(Debug, Default)]
struct Cluster {
    shown: Option<(ControlPlanePhase, String)>,
    bar: Option<ProgressBar>,
}

impl Phases {
    /// An empty display whose clock starts now.
    pub(crate) fn start() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { started: Instant::now(), bars, clusters: BTreeMap::new() }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows what has changed since the last call. Progress within a phase moves the bar's text only.
    pub(crate) fn update(&mut self, planes: &[ClusterControlPlane]) {
        for plane in planes {
            let cluster = self.clusters.entry(plane.name.clone()).or_default();
            if cluster.bar.is_none()
                && let Some(bars) = &self.bars
            {
                cluster.bar = Some(bars.add(bar(&plane.name)));
            }
            if let Some(bar) = &cluster.bar {
                bar.set_position(position(plane.phase));
                bar.set_message(format!("{} {}", plane.phase, plane.message));
            }
            let now = (plane.phase, plane.version.clone());
            if cluster.shown.as_ref() == Some(&now) {
                continue;
            }
            cluster.shown = Some(now);
            let line = line(self.started.elapsed(), plane);
            match &self.bars {
                // Above the bars, so that both stay readable.
                Some(bars) => drop(bars.println(line)),
                None => show::say(&line),
            }
        }
    }
}

impl Drop for Phases {
    fn drop(&mut self) {
        for bar in self.clusters.values().filter_map(|cluster| cluster.bar.as_ref()) {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new(position(ControlPlanePhase::Healthy)).with_prefix(name.to_owned());
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {prefix:12} [{bar:21}] {wide_msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn line(elapsed: Duration, plane: &ClusterControlPlane) -> String {
    let why = match plane.message.as_str() {
        "" => String::new(),
        message => format!("  ({message})"),
    };
    format!("  {:>6.1} s  {:12} {:8} {}{why}", elapsed.as_secs_f64(), plane.name, plane.version, plane.phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_to_healthy() {
        assert_eq!(position(ControlPlanePhase::Pending), 0);
        assert!(position(ControlPlanePhase::MovingTag) < position(ControlPlanePhase::MovingWorkloads));
        assert_eq!(position(ControlPlanePhase::Healthy), 6);
    }
}
