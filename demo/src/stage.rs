//! The stage on which the acts play: the clusters, the binary, the operator, and what was verified so far.

use crate::show;
use anyhow::{Context as _, Result, bail};
use fedistio_crds::TYPES_GROUP;
use fedistio_tests::{AuditMark, Cluster, Operator, TestBed, install::apply_yaml};
use kube::api::DynamicObject;
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// Pause between two looks at a cluster while something is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// `kubectl` with the kubeconfig of a cluster.
pub(crate) fn kubectl(cluster: &Cluster, arguments: &str) -> String {
    format!("kubectl --kubeconfig {} {arguments}", show::path(cluster.kubeconfig_path()))
}

/// Everything that acts share.
pub(crate) struct Stage {
    /// The clusters.
    pub(crate) bed: TestBed,
    /// The built `fedistio`.
    pub(crate) binary: PathBuf,
    /// The ends of the members' audit logs at the operator's start; `None` for clusters of the user.
    pub(crate) marks: Vec<Option<AuditMark>>,
    operator: RefCell<Option<Operator>>,
    verified: RefCell<Vec<(usize, String)>>,
}

impl Stage {
    /// A stage without an operator.
    pub(crate) fn new(bed: TestBed, binary: PathBuf) -> Self {
        let marks = bed.members.iter().map(|member| member.audit_mark().ok()).collect();
        Self { bed, binary, marks, operator: RefCell::default(), verified: RefCell::default() }
    }

    /// The cluster that changes reach first.
    pub(crate) fn canary(&self) -> Result<&Cluster> {
        self.bed.members.first().context("there are no members")
    }

    /// The clusters that follow it.
    pub(crate) fn rest(&self) -> &[Cluster] {
        self.bed.members.get(1..).unwrap_or_default()
    }

    /// The value of the member's label `env`.
    pub(crate) fn environment(&self, member: &Cluster) -> &'static str {
        let canary = self.bed.members.first().is_some_and(|canary| canary.name() == member.name());
        if canary { "canary" } else { "prod" }
    }

    /// The host's kubeconfig as text.
    pub(crate) fn host_kubeconfig(&self) -> String {
        self.bed.host.kubeconfig_path().display().to_string()
    }

    /// Applies a file of `demo/manifests` to the host, as `kubectl apply --server-side -f` does; the placeholders of the file are
    /// replaced first. Returns how many federated objects were among them.
    pub(crate) async fn apply(&self, file: &str, replace: &[(&str, &str)]) -> Result<usize> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests").join(file);
        let mut text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let apply = |source: &str| kubectl(&self.bed.host, &format!("apply --server-side -f {source}"));
        if replace.is_empty() {
            show::command::prompt(&apply(&show::path(&path)));
        } else {
            let edits: Vec<String> =
                replace.iter().map(|(from, to)| format!("-e 's#{from}#{to}#'")).collect();
            show::command::prompt(&format!("sed {} {} | {}", edits.join(" "), show::path(&path), apply("-")));
        }
        for (from, to) in replace {
            text = text.replace(from, to);
        }
        let applied = apply_yaml(&self.bed.host, &text).await?;
        for object in &applied {
            let kind = object.types.as_ref().map_or("", |types| types.kind.as_str()).to_lowercase();
            show::say(&format!("{kind}/{} applied", object.metadata.name.as_deref().unwrap_or_default()));
        }
        let federated = |object: &&DynamicObject| {
            object.types.as_ref().is_some_and(|types| types.api_version.starts_with(TYPES_GROUP))
        };
        Ok(applied.iter().filter(federated).count())
    }

    /// Notes what an act has verified against the members.
    pub(crate) fn verified(&self, act: usize, what: impl Into<String>) {
        let what = what.into();
        show::say(&format!("✔ {what}"));
        self.verified.borrow_mut().push((act, what));
    }

    /// All that was verified, by act.
    pub(crate) fn all_verified(&self) -> Vec<(usize, String)> {
        self.verified.borrow().clone()
    }

    /// Takes the running operator over.
    pub(crate) fn set_operator(&self, operator: Operator) {
        *self.operator.borrow_mut() = Some(operator);
    }

    /// Asks the running operator something.
    pub(crate) fn operator<T>(&self, ask: impl FnOnce(&mut Operator) -> Result<T>) -> Result<T> {
        ask(self.operator.borrow_mut().as_mut().context("the operator has not been started")?)
    }

    /// Fails once the operator has ended.
    pub(crate) fn operator_runs(&self) -> Result<()> {
        match self.operator.borrow_mut().as_mut().and_then(Operator::ended) {
            Some(status) => bail!("the operator has ended by itself ({status})"),
            None => Ok(()),
        }
    }

    /// The end of the operator's log, where there is one.
    pub(crate) fn operator_log(&self, lines: usize) -> Option<(PathBuf, String)> {
        let operator = self.operator.borrow();
        operator.as_ref().map(|operator| (operator.log_path().to_owned(), operator.log_tail(lines)))
    }

    /// Asks `question` again and again until it answers with a value, showing `what` as a running step.
    ///
    /// Fails after `bound` with the last error of the question, or when the operator has ended.
    pub(crate) async fn wait<T>(
        &self,
        what: &str,
        bound: Duration,
        mut question: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let step = fedistio_tests::Progress::stderr().step(what);
        let deadline = Instant::now() + bound;
        loop {
            match question().await {
                Ok(answer) => {
                    step.done();
                    return Ok(answer);
                }
                Err(error) => {
                    self.operator_runs().with_context(|| format!("while waiting: {what}: {error:#}"))?;
                    if Instant::now() >= deadline {
                        return Err(error)
                            .with_context(|| format!("not within {} s: {what}", bound.as_secs()));
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the operator, then the clusters.
    pub(crate) async fn clear(self) {
        if let Some(operator) = self.operator.into_inner()
            && let Err(error) = operator.stop().await
        {
            show::say(&format!("the operator did not stop cleanly: {error:#}"));
        }
        self.bed.shutdown().await;
    }
}
