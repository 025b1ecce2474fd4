//! Act 7: what it took, and what was verified.

use crate::{
    show::{self, table},
    stage::Stage,
};
use anyhow::Result;
use fedistio_tests::{Cluster, install};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const ACT: usize = 7;
/// How long the members are watched for writes that nobody asked for.
const IDLE: Duration = Duration::from_secs(10);

/// Shows the operator's memory and CPU, its writes, and everything that was verified.
pub(crate) async fn play(stage: &Stage, started: Instant) -> Result<()> {
    show::act(ACT, "figures");
    idle(stage).await?;
    stage.operator_runs()?;
    let (cpu, now, peak) = stage.operator(|operator| {
        Ok((operator.cpu_seconds()?, operator.rss_bytes()?, operator.peak_rss_bytes()?))
    })?;
    table::print(
        ["the operator", "so far"],
        [
            ["build".to_owned(), if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()],
            ["CPU".to_owned(), format!("{cpu:.2} s")],
            ["memory now".to_owned(), megabytes(now)],
            ["memory at its peak".to_owned(), megabytes(peak)],
            ["time since the demo's start".to_owned(), show::span(started.elapsed())],
        ],
    );
    if let Some(rows) = writes(stage)? {
        table::print(["member", "writes of the operator", "applied", "deleted", "refused"], rows);
    } else {
        show::say(
            "The writes of the operator are counted from audit logs, which are not at hand for clusters of your own.",
        );
    }
    let verified = stage.all_verified();
    let count = verified.len();
    table::print(
        ["act", "verified with the clusters' own API servers"],
        verified.into_iter().map(|(act, what)| [act.to_string(), what]),
    );
    show::say(&format!("All {count} checks hold."));
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    // One decimal; the loss of precision starts at terabytes.
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// Counts the operator's writes while nothing happens: there must be none.
async fn idle(stage: &Stage) -> Result<()> {
    let marks: Vec<_> = stage.bed.members.iter().map(|member| member.audit_mark().ok()).collect();
    if marks.iter().any(Option::is_none) {
        return Ok(());
    }
    let step = fedistio_tests::Progress::stderr().step("watching for writes that nobody asked for");
    tokio::time::sleep(IDLE).await;
    step.done();
    for (member, mark) in stage.bed.members.iter().zip(marks) {
        let Some(mark) = mark else { continue };
        let writes = member.audit_writes_since(mark, Some(install::USER))?;
        anyhow::ensure!(
            writes.is_empty(),
            "the operator wrote to {} while nothing had changed: {writes:?}",
            member.name()
        );
    }
    stage.verified(
        ACT,
        format!("in {} idle seconds the operator wrote nothing to any member", IDLE.as_secs()),
    );
    Ok(())
}

fn writes(stage: &Stage) -> Result<Option<Vec<[String; 5]>>> {
    let mut rows = Vec::new();
    for (member, mark) in stage.bed.members.iter().zip(&stage.marks) {
        let Some(mark) = mark else { return Ok(None) };
        rows.push(row(member, *mark)?);
    }
    Ok(Some(rows))
}

fn row(member: &Cluster, mark: fedistio_tests::AuditMark) -> Result<[String; 5]> {
    let writes = member.audit_writes_since(mark, Some(install::USER))?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for write in &writes {
        let kind = match (write.code, write.verb.as_str()) {
            (400.., _) => "refused",
            (_, "delete" | "deletecollection") => "deleted",
            _ => "applied",
        };
        *counts.entry(kind).or_default() += 1;
    }
    let count = |kind: &str| counts.get(kind).copied().unwrap_or(0).to_string();
    Ok([
        member.name().to_owned(),
        writes.len().to_string(),
        count("applied"),
        count("deleted"),
        count("refused"),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_one_decimal() {
        assert_eq!(megabytes(40_960_000), "40.9 MB");
        assert_eq!(megabytes(999_999), "0.9 MB");
    }
}
