//! The numbers of a run, as JSON and as a table beside the targets.

use super::stats::Latencies;
use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that a run measured. Times are in the unit that the field's name says; MB are 10⁶ bytes.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Report {
    /// Member clusters.
    pub members: usize,
    /// Federated objects.
    pub objects: usize,
    /// Where it ran.
    pub machine: Machine,
    /// The bare client.
    pub floor: Floor,
    /// All objects at once.
    pub bulk: Bulk,
    /// One change to all members, one after the other.
    pub change: Latency,
    /// The second of two changes of one object, sent as soon as the first was seen.
    pub second_change: Latency,
    /// Somebody else's edits of copies.
    pub drift: Drift,
    /// SIGTERM and a new start with nothing changed.
    pub restart: Restart,
    /// A while without changes.
    pub idle: Idle,
    /// One member's API server has ended.
    pub down: Absent,
    /// One member's API server is frozen.
    pub hung: Absent,
    /// All objects deleted.
    pub delete: Delete,
    /// Cost of the operator's process.
    pub operator: Process,
}

/// The machine and how busy it was with other things.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Machine {
    /// Logical CPUs.
    pub cpus: usize,
    /// Load average of a minute before the run.
    pub load_before: f64,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// Nearest rank.
    pub p99_ms: f64,
}

impl From<Latencies> for Latency {
    fn from(latencies: Latencies) -> Self {
        Self { p50_ms: latencies.percentile_ms(50), p99_ms: latencies.percentile_ms(99) }
    }
}

/// What a bare client needs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Floor {
    /// Requests in flight to each member in the best run.
    pub in_flight_per_member: usize,
    /// Server-side applies only, first sent to last seen.
    pub bulk_seconds: f64,
    /// CPU of this process meanwhile, with the watches that see the objects.
    pub bulk_cpu_seconds: f64,
    /// The same with a create on the host and one status write for each object.
    pub bulk_with_host_seconds: f64,
    /// One change, applied to all members at once, until seen in all.
    pub change: Option<Latency>,
    /// Deletes in the members only; the best run.
    pub delete_seconds: Option<f64>,
    /// Deletes in the members and on the host.
    pub delete_with_host_seconds: f64,
}

/// Bulk propagation.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Bulk {
    /// First create on the host to the last object seen in the last member.
    pub seconds: f64,
    /// [`Floor::bulk_with_host_seconds`].
    pub floor_seconds: f64,
    /// `seconds / floor_seconds`.
    pub ratio: f64,
    /// First create to the answer of the last create.
    pub create_seconds: f64,
    /// First create until every status says that all copies are in sync (read five times a second).
    pub status_seconds: f64,
    /// The operator's CPU until it is steady again.
    pub cpu_seconds: f64,
    /// Peak of the operator's resident memory.
    pub peak_rss_mb: f64,
    /// The operator's writes to each member, from its audit log.
    pub member_writes: Vec<usize>,
    /// Requests that each member counts for `virtualservices`, from its metrics.
    pub member_requests: Vec<u64>,
    /// The operator's writes to the host, without its lease.
    pub host_writes: usize,
}

/// Drift put right, from the answer to the edit until seen in the member.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Drift {
    /// Median.
    pub p50_ms: f64,
    /// Nearest rank.
    pub p99_ms: f64,
    /// Median from sending the edit.
    pub with_edit_p50_ms: f64,
    /// How many edits.
    pub edits: usize,
}

/// A restart with nothing changed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Restart {
    /// Writes to all members together.
    pub member_writes: usize,
    /// Writes to the host, without the lease.
    pub host_writes: usize,
    /// SIGTERM to the end of the process.
    pub seconds_to_stop: f64,
    /// Start of the process until it uses next to no CPU for a second; that second is not counted.
    pub seconds_to_steady: f64,
    /// Start of the process until an object that was created at once is in all members.
    pub seconds_to_fresh_object: f64,
}

/// Nothing changes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Idle {
    /// For how long.
    pub seconds: f64,
    /// The operator's CPU.
    pub cpu_seconds_per_minute: f64,
    /// Requests a minute to the host by verb, less what is there without the operator.
    pub host_requests_per_minute: BTreeMap<String, f64>,
    /// The same to all members together.
    pub member_requests_per_minute: BTreeMap<String, f64>,
}

/// A member is away.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Absent {
    /// Median latency of a change in the others.
    pub p50_ms: f64,
    /// Nearest rank.
    pub p99_ms: f64,
    /// From its first answer until it has all changes that it missed.
    pub caught_up_seconds: f64,
}

/// Everything deleted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Delete {
    /// First delete until the last copy is gone from the last member.
    pub member_seconds: f64,
    /// First delete until everything is gone from the host too.
    pub seconds: f64,
    /// [`Floor::delete_with_host_seconds`].
    pub floor_seconds: f64,
    /// `seconds / floor_seconds`.
    pub ratio: f64,
    /// The operator's CPU.
    pub cpu_seconds: f64,
}

/// The operator's process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Process {
    /// CPU of the whole run.
    pub cpu_seconds: f64,
    /// Peak of the whole run.
    pub peak_rss_mb: f64,
    /// With all members and no objects.
    pub empty_rss_mb: f64,
    /// With all members and all objects, after a restart.
    pub idle_rss_mb: f64,
}

impl Report {
    /// Fills in what follows from other fields: the ratios to the floor.
    pub fn compare(&mut self) {
        self.bulk.floor_seconds = self.floor.bulk_with_host_seconds;
        self.bulk.ratio = ratio(self.bulk.seconds, self.bulk.floor_seconds);
        self.delete.floor_seconds = self.floor.delete_with_host_seconds;
        self.delete.ratio = ratio(self.delete.seconds, self.delete.floor_seconds);
    }

    /// The table for people.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_header(["", "measured", "floor", "ratio", "target"]);
        for [what, measured, floor, ratio, target] in self.propagation().into_iter().chain(self.rest()) {
            let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
            table.add_row([Cell::new(what), right(measured), right(floor), right(ratio), Cell::new(target)]);
        }
        table
    }

    fn propagation(&self) -> Vec<[String; 5]> {
        let change = self.floor.change.unwrap_or_default();
        let size = format!("{} × {}", self.objects, self.members);
        vec![
            row(
                &format!("bulk, {size}"),
                seconds(self.bulk.seconds),
                &seconds(self.bulk.floor_seconds),
                self.bulk.ratio,
                "≤ 1.25 × floor",
            ),
            row(
                "  floor of the applies alone",
                String::new(),
                &seconds(self.floor.bulk_seconds),
                ratio(self.bulk.seconds, self.floor.bulk_seconds),
                "",
            ),
            row("  until every status is in sync", seconds(self.bulk.status_seconds), "", 0.0, ""),
            row(
                "  operator's CPU",
                seconds(self.bulk.cpu_seconds),
                &seconds(self.floor.bulk_cpu_seconds),
                ratio(self.bulk.cpu_seconds, self.floor.bulk_cpu_seconds),
                "≤ 1.5 s",
            ),
            row("  operator's peak memory", mb(self.bulk.peak_rss_mb), "", 0.0, "≤ 60 MB"),
            row("  writes to each member", format!("{:?}", self.bulk.member_writes), "", 0.0, ""),
            row("  writes to the host", self.bulk.host_writes.to_string(), "", 0.0, ""),
            row(
                "one change, p50",
                ms(self.change.p50_ms),
                &ms(change.p50_ms),
                ratio(self.change.p50_ms, change.p50_ms),
                "≤ 20 ms",
            ),
            row(
                "one change, p99",
                ms(self.change.p99_ms),
                &ms(change.p99_ms),
                ratio(self.change.p99_ms, change.p99_ms),
                "≤ 60 ms",
            ),
            row("second change at once, p50", ms(self.second_change.p50_ms), "", 0.0, "≤ 20 ms"),
            row("second change at once, p99", ms(self.second_change.p99_ms), "", 0.0, "≤ 60 ms"),
            row("drift put right, p50", ms(self.drift.p50_ms), "", 0.0, "≤ 10 ms"),
            row("drift put right, p99", ms(self.drift.p99_ms), "", 0.0, "≤ 40 ms"),
        ]
    }

    fn rest(&self) -> Vec<[String; 5]> {
        vec![
            row("restart: writes to members", self.restart.member_writes.to_string(), "", 0.0, "0"),
            row("restart: until steady", seconds(self.restart.seconds_to_steady), "", 0.0, ""),
            row(
                "restart: fresh object seen after",
                seconds(self.restart.seconds_to_fresh_object),
                "",
                0.0,
                "≤ 2 s",
            ),
            row("idle: CPU a minute", seconds(self.idle.cpu_seconds_per_minute), "", 0.0, "≤ 0.1 s"),
            row(
                "idle: requests to the host a minute",
                verbs(&self.idle.host_requests_per_minute),
                "",
                0.0,
                "lease",
            ),
            row(
                "idle: requests to all members a minute",
                verbs(&self.idle.member_requests_per_minute),
                "",
                0.0,
                "probes and watches",
            ),
            row(
                "member down: others, p50",
                ms(self.down.p50_ms),
                &ms(self.change.p50_ms),
                ratio(self.down.p50_ms, self.change.p50_ms),
                "unchanged",
            ),
            row("member down: others, p99", ms(self.down.p99_ms), &ms(self.change.p99_ms), 0.0, "unchanged"),
            row("member down: caught up after", seconds(self.down.caught_up_seconds), "", 0.0, "≤ 2 s"),
            row(
                "member hung: others, p50",
                ms(self.hung.p50_ms),
                &ms(self.change.p50_ms),
                ratio(self.hung.p50_ms, self.change.p50_ms),
                "unchanged",
            ),
            row("member hung: others, p99", ms(self.hung.p99_ms), &ms(self.change.p99_ms), 0.0, "unchanged"),
            row("member hung: caught up after", seconds(self.hung.caught_up_seconds), "", 0.0, "≤ 2 s"),
            row(
                &format!("delete all {}", self.objects),
                seconds(self.delete.seconds),
                &seconds(self.delete.floor_seconds),
                self.delete.ratio,
                "≤ 1.25 × floor",
            ),
            row(
                "  until gone from the members",
                seconds(self.delete.member_seconds),
                &self.floor.delete_seconds.map(seconds).unwrap_or_default(),
                ratio(self.delete.member_seconds, self.floor.delete_seconds.unwrap_or(0.0)),
                "",
            ),
            row("memory, no objects", mb(self.operator.empty_rss_mb), "", 0.0, ""),
            row("memory, idle with all objects", mb(self.operator.idle_rss_mb), "", 0.0, "≤ 40 MB"),
            row("memory, peak of the run", mb(self.operator.peak_rss_mb), "", 0.0, "≤ 60 MB"),
            row("operator's CPU, whole run", seconds(self.operator.cpu_seconds), "", 0.0, ""),
        ]
    }
}

fn row(what: &str, measured: String, floor: &str, ratio: f64, target: &str) -> [String; 5] {
    let ratio = if ratio > 0.0 { format!("{ratio:.2}") } else { String::new() };
    [what.to_owned(), measured, floor.to_owned(), ratio, target.to_owned()]
}

fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

fn seconds(value: f64) -> String {
    format!("{value:.2} s")
}

fn ms(value: f64) -> String {
    format!("{value:.1} ms")
}

fn mb(value: f64) -> String {
    format!("{value:.1} MB")
}

fn verbs(requests: &BTreeMap<String, f64>) -> String {
    if requests.is_empty() {
        return "none".to_owned();
    }
    requests.iter().map(|(verb, count)| format!("{verb} {count}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_and_prints() {
        let mut report = Report { members: 4, objects: 500, ..Report::default() };
        report.bulk.seconds = 5.0;
        report.floor.bulk_with_host_seconds = 4.0;
        report.floor.change = Some(Latency { p50_ms: 10.0, p99_ms: 20.0 });
        report.change.p50_ms = 15.0;
        report.compare();
        assert!((report.bulk.ratio - 1.25).abs() < 1e-9);
        assert!(report.delete.ratio.abs() < 1e-9, "nothing measured is no ratio");
        let text = report.table().to_string();
        assert!(text.contains("bulk, 500 × 4") && text.contains("1.25") && text.contains("1.50"), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        for field in ["/bulk/ratio", "/restart/member_writes", "/operator/peak_rss_mb", "/down/p50_ms"] {
            assert!(json.pointer(field).is_some(), "{field}");
        }
    }
}
