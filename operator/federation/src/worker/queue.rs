//! The queue of one worker: keyed by object, the newest job wins, one job of an object at a time. Pure.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Jobs by key. A key is waiting, running, or running with a successor.
#[derive(Debug)]
pub(crate) struct Queue<K, J> {
    waiting: VecDeque<K>,
    slots: HashMap<K, Slot<J>>,
}

#[derive(Debug)]
struct Slot<J> {
    next: Option<J>,
    running: bool,
    /// The running job must not run again.
    cancelled: bool,
}

impl<K: Clone + Eq + Hash, J> Queue<K, J> {
    pub(crate) fn new() -> Self {
        Self { waiting: VecDeque::new(), slots: HashMap::new() }
    }

    /// Adds a job; returns the one that it replaces.
    pub(crate) fn push(&mut self, key: K, job: J) -> Option<J> {
        if let Some(slot) = self.slots.get_mut(&key) {
            return slot.next.replace(job);
        }
        self.waiting.push_back(key.clone());
        self.slots.insert(key, Slot { next: Some(job), running: false, cancelled: false });
        None
    }

    /// Takes the oldest waiting job. Its key counts as running until [`Self::done`].
    pub(crate) fn pop(&mut self) -> Option<(K, J)> {
        while let Some(key) = self.waiting.pop_front() {
            if let Some(slot) = self.slots.get_mut(&key)
                && let Some(job) = slot.next.take()
            {
                slot.running = true;
                return Some((key, job));
            }
        }
        None
    }

    /// The running job of `key` has ended; a job that came meanwhile is now waiting.
    pub(crate) fn done(&mut self, key: &K) {
        self.finish(key, None);
    }

    /// The running job of `key` has to run again, unless a newer one came meanwhile: then it is given back.
    pub(crate) fn retry(&mut self, key: &K, job: J) -> Option<J> {
        self.finish(key, Some(job))
    }

    /// Takes out the waiting job of `key`, and keeps a running one from running again.
    pub(crate) fn cancel(&mut self, key: &K) -> Option<J> {
        let slot = self.slots.get_mut(key)?;
        slot.cancelled = slot.running;
        let job = slot.next.take();
        if !slot.running {
            self.slots.remove(key);
            self.waiting.retain(|waiting| waiting != key);
        }
        job
    }

    fn finish(&mut self, key: &K, again: Option<J>) -> Option<J> {
        let Some(slot) = self.slots.get_mut(key) else { return again };
        slot.running = false;
        let cancelled = std::mem::take(&mut slot.cancelled);
        let left = match (&slot.next, again) {
            (None, Some(job)) if !cancelled => {
                slot.next = Some(job);
                None
            }
            (_, again) => again,
        };
        if slot.next.is_some() {
            self.waiting.push_back(key.clone());
        } else {
            self.slots.remove(key);
        }
        left
    }

    /// Keys that are waiting or running.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes out every job that has not started.
    pub(crate) fn drain(&mut self) -> Vec<J> {
        self.waiting.clear();
        let jobs = self.slots.values_mut().filter_map(|slot| slot.next.take()).collect();
        self.slots.retain(|_, slot| slot.running);
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_job_wins_and_keeps_its_place() {
        let mut queue = Queue::new();
        assert_eq!(queue.push("a", 1), None);
        assert_eq!(queue.push("b", 2), None);
        assert_eq!(queue.push("a", 3), Some(1));
        assert_eq!(queue.pop(), Some(("a", 3)));
        assert_eq!(queue.pop(), Some(("b", 2)));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn one_job_of_a_key_runs_at_a_time() {
        let mut queue = Queue::new();
        queue.push("a", 1);
        assert_eq!(queue.pop(), Some(("a", 1)));
        assert_eq!(queue.push("a", 2), None);
        assert_eq!(queue.pop(), None);
        queue.done(&"a");
        assert_eq!(queue.pop(), Some(("a", 2)));
        queue.done(&"a");
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_cancelled_job_runs_no_more() {
        let mut queue = Queue::new();
        queue.push("a", 1);
        queue.push("b", 2);
        assert_eq!(queue.cancel(&"a"), Some(1));
        assert_eq!(queue.pop(), Some(("b", 2)));
        // Under way: it is not stopped, but not tried again either.
        assert_eq!(queue.cancel(&"b"), None);
        assert_eq!(queue.retry(&"b", 2), Some(2));
        assert_eq!(queue.len(), 0);
        // What comes after the cancellation counts.
        queue.push("c", 3);
        queue.pop();
        queue.cancel(&"c");
        queue.push("c", 4);
        assert_eq!(queue.retry(&"c", 3), Some(3));
        assert_eq!(queue.pop(), Some(("c", 4)));
        assert_eq!(queue.cancel(&"x"), None);
    }

    #[test]
    fn a_retry_gives_way_to_a_newer_job() {
        let mut queue = Queue::new();
        queue.push("a", 1);
        queue.pop();
        queue.push("a", 2);
        assert_eq!(queue.retry(&"a", 1), Some(1));
        assert_eq!(queue.pop(), Some(("a", 2)));
        assert_eq!(queue.retry(&"a", 2), None);
        assert_eq!(queue.pop(), Some(("a", 2)));
        assert_eq!(queue.drain(), Vec::<i32>::new());
        queue.push("a", 3);
        assert_eq!(queue.drain(), [3]);
    }
}
