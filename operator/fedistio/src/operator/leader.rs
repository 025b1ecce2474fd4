//! Leader election by a `coordination.k8s.io/v1` Lease, with the rules of client-go's leaderelection: one holder, renewed before it
//! ends, taken over only when it has not been renewed for its whole duration, as seen by the waiting replica's own clock.

use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use std::time::Duration;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Name of the Lease.
const NAME: &str = "fedistio-operator";
/// A lease that was not renewed for so long may be taken over.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long stops: the rest of the duration is its margin against a slow clock.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Time between renewals.
const RENEW_PERIOD: Duration = Duration::from_secs(5);
/// Time between looks at somebody else's lease.
const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// The lease was lost.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the lease was lost: {0}; this process ends so that its successor writes alone")]
pub(crate) struct LeaseLost(String);

/// A candidate for the lease.
pub(crate) struct Election {
    api: Api<LeaseObject>,
    identity: String,
}

/// The lease, held and renewed in the background.
pub(crate) struct Lease {
    election: Election,
    lost: watch::Receiver<Option<LeaseLost>>,
    renewal: JoinHandle<()>,
}

/// What a candidate does about the lease as it stands.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Take,
    Wait,
}

impl Election {
    /// A candidate with an identity of its own: host name, process, and start time.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "localhost".to_owned());
        let identity = format!("{host}-{}-{}", std::process::id(), Timestamp::now().as_millisecond());
        Self { api: Api::namespaced(client, namespace), identity }
    }

    /// Waits until the lease is ours.
    pub(crate) async fn acquire(self) -> Lease {
        let mut observed: Option<(String, Instant)> = None;
        let mut told = false;
        loop {
            match self.attempt(&mut observed).await {
                Ok(Move::Take) => break,
                Ok(Move::Wait) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::info!(lease = NAME, "another replica leads; waiting");
                    }
                }
                Err(error) => tracing::warn!(%error, "the lease can't be read or written; trying again"),
            }
            sleep(RETRY_PERIOD).await;
        }
        tracing::info!(lease = NAME, identity = %self.identity, "leading");
        let (sender, lost) = watch::channel(None);
        let renewal = tokio::spawn(renew(self.api.clone(), self.identity.clone(), sender));
        Lease { election: self, lost, renewal }
    }

    async fn attempt(&self, observed: &mut Option<(String, Instant)>) -> Result<Move, kube::Error> {
        let Some(mut lease) = self.api.get_opt(NAME).await? else {
            let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
            let lease = LeaseObject { metadata, spec: Some(held(&self.identity, 1)) };
            return took(self.api.create(&PostParams::default(), &lease).await);
        };
        if decide(&lease, &self.identity, observed, Instant::now()) == Move::Wait {
            return Ok(Move::Wait);
        }
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        lease.spec = Some(held(&self.identity, transitions.saturating_add(1)));
        took(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }
}

/// A conflict means that another replica was faster: no error, but a wait.
fn took(result: Result<LeaseObject, kube::Error>) -> Result<Move, kube::Error> {
    match result {
        Ok(_) => Ok(Move::Take),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Move::Wait),
        Err(error) => Err(error),
    }
}

/// Pure. A lease without holder, or of ourselves, is taken; somebody else's only when its renewal has not changed for its duration
/// since we first saw it. Clocks of two machines are never compared.
fn decide(
    lease: &LeaseObject,
    identity: &str,
    observed: &mut Option<(String, Instant)>,
    now: Instant,
) -> Move {
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    if holder.is_empty() || holder == identity {
        return Move::Take;
    }
    let duration = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
    let renewal = format!("{holder} {}", spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default());
    match observed {
        Some((last, since)) if *last == renewal => {
            if now - *since > Duration::from_secs(duration) {
                Move::Take
            } else {
                Move::Wait
            }
        }
        _ => {
            *observed = Some((renewal, now));
            Move::Wait
        }
    }
}

fn held(identity: &str, transitions: i32) -> LeaseSpec {
    let now = MicroTime(Timestamp::now());
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

async fn renew(api: Api<LeaseObject>, identity: String, lost: watch::Sender<Option<LeaseLost>>) {
    let mut renewed = Instant::now();
    loop {
        sleep(RENEW_PERIOD).await;
        loop {
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, renew_once(&api, &identity)).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    break;
                }
                Ok(Ok(false)) => {
                    lost.send_replace(Some(LeaseLost("another replica holds it".to_owned())));
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the lease can't be renewed; trying again"),
                Err(_) => {
                    let error = format!("it could not be renewed within {} s", RENEW_DEADLINE.as_secs());
                    lost.send_replace(Some(LeaseLost(error)));
                    return;
                }
            }
            sleep(RETRY_PERIOD).await;
        }
    }
}

/// Renews the lease; false where somebody else holds it.
async fn renew_once(api: &Api<LeaseObject>, identity: &str) -> Result<bool, kube::Error> {
    let mut lease = api.get(NAME).await?;
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(identity) {
        return Ok(false);
    }
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    api.replace(NAME, &PostParams::default(), &lease).await.map(|_| true)
}

impl Lease {
    /// Waits until the lease is lost.
    pub(crate) async fn lost(&self) -> LeaseLost {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await.map(|lost| lost.clone()) {
            Ok(Some(lost)) => lost,
            _ => LeaseLost("its renewal has ended".to_owned()),
        }
    }

    /// Gives the lease back, so that a waiting replica takes it at its next look.
    pub(crate) async fn release(self) {
        self.renewal.abort();
        let release = async {
            let mut lease = self.election.api.get(NAME).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(self.election.identity.as_str()) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.election.api.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match timeout(Duration::from_secs(3), release).await {
            Ok(Ok(())) => tracing::info!(lease = NAME, "released"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease can't be released; it ends by itself"),
            Err(_) => tracing::warn!("the lease can't be released in time; it ends by itself"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64) -> LeaseObject {
        let mut spec = held(holder, 1);
        spec.renew_time = Some(MicroTime(Timestamp::from_second(renewed).unwrap()));
        LeaseObject { metadata: ObjectMeta::default(), spec: Some(spec) }
    }

    #[test]
    fn a_free_lease_and_our_own_are_taken() {
        assert_eq!(decide(&lease("", 0), "me", &mut None, Instant::now()), Move::Take);
        assert_eq!(decide(&lease("me", 0), "me", &mut None, Instant::now()), Move::Take);
        assert_eq!(decide(&LeaseObject::default(), "me", &mut None, Instant::now()), Move::Take);
    }

    #[test]
    fn anothers_lease_is_taken_only_after_its_whole_duration_without_renewal() {
        let mut observed = None;
        let start = Instant::now();
        assert_eq!(decide(&lease("you", 1), "me", &mut observed, start), Move::Wait);
        let late = start + DURATION + Duration::from_secs(1);
        assert_eq!(decide(&lease("you", 2), "me", &mut observed, late), Move::Wait);
        assert_eq!(decide(&lease("you", 2), "me", &mut observed, late + DURATION), Move::Wait);
        assert_eq!(decide(&lease("you", 2), "me", &mut observed, late + DURATION * 2), Move::Take);
    }
}
