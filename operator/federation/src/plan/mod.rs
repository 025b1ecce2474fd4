//! Plan: what is wanted × what was seen → what to do, with a reason. Pure.

mod copy;

pub use copy::{CopyInput, Failure, InFlight, Seen, Step, Verdict, Wanted, WatchState, plan_copy};
