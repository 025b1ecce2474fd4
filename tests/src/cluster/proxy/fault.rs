//! What the proxy does wrong, and with which requests.

use std::time::Duration;

/// What the proxy does with connections and requests, old and new.
///
/// Faults of connections reach the clients of both routes. Faults of requests need to read them, so they only reach clients by
/// [`Route::Http`](crate::Route::Http); by [`Route::Proxy`](crate::Route::Proxy) everything passes meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Passes everything on.
    #[default]
    None,
    /// Every chunk of bytes arrives later by this, in each direction; the bandwidth stays.
    Delay(Duration),
    /// New connections are closed at once and existing ones are cut.
    Refuse,
    /// Connections stay open but no bytes pass, as when packets are dropped.
    Silence,
    /// Requests are answered with a Kubernetes `Status` by the proxy and do not reach the API server.
    Answer {
        /// The status code, 400 to 599: 409, 410, 429, 500, 503, …; anything else counts as 500.
        status: u16,
        /// Of the requests that are meant, every n-th is answered, so the share is 1/n: 1 is all of them, 0 is none.
        every: u64,
        /// Only requests that write are meant: all but GET, HEAD and OPTIONS, dry runs and access reviews too.
        only_writes: bool,
        /// When to try again, in the `Retry-After` header and the `Status`; rounded up to whole seconds.
        retry_after: Option<Duration>,
    },
    /// Responses end in the middle of their body: the connection is closed there, as when the server has crashed.
    CutBody {
        /// How many bytes of a body pass. A body that is no longer than this passes whole; watches are cut when they reach it.
        after: usize,
        /// Of all requests, every n-th has its response cut: 1 is all of them, 0 is none.
        every: u64,
    },
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Answer { status: u16, retry_after: Option<Duration> },
    Cut { after: usize },
}

impl Fault {
    /// What happens to a request; `next` counts the requests that are meant, beginning with 1, and is called for those only.
    pub(super) fn verdict(self, writes: bool, next: impl FnOnce() -> u64) -> Verdict {
        let hits = |every: u64| every > 0 && next().is_multiple_of(every);
        match self {
            Self::Answer { status, every, only_writes, retry_after } => {
                let meant = writes || !only_writes;
                if meant && hits(every) { Verdict::Answer { status, retry_after } } else { Verdict::Pass }
            }
            Self::CutBody { after, every } if hits(every) => Verdict::Cut { after },
            _ => Verdict::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of six requests are hit, when every second one writes.
    fn hit(fault: Fault) -> Vec<bool> {
        let mut count = 0;
        let requests = [true, false, true, false, true, false];
        let verdicts = requests.map(|writes| {
            let next = || {
                count += 1;
                count
            };
            fault.verdict(writes, next) != Verdict::Pass
        });
        verdicts.into()
    }

    #[test]
    fn hits_those_that_are_meant() {
        let answer =
            |every, only_writes| Fault::Answer { status: 429, every, only_writes, retry_after: None };
        assert_eq!(hit(answer(1, false)), [true; 6]);
        assert_eq!(hit(answer(0, false)), [false; 6]);
        assert_eq!(hit(answer(3, false)), [false, false, true, false, false, true]);
        assert_eq!(hit(answer(1, true)), [true, false, true, false, true, false]);
        assert_eq!(hit(answer(2, true)), [false, false, true, false, false, false], "reads are not counted");
        assert_eq!(hit(Fault::CutBody { after: 9, every: 2 }), [false, true, false, true, false, true]);
        for fault in [Fault::None, Fault::Refuse, Fault::Silence, Fault::Delay(Duration::ZERO)] {
            assert_eq!(hit(fault), [false; 6], "{fault:?} is not one of requests");
        }
    }
}
