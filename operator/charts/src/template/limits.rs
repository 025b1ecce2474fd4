//! Bounds of a render: a chart that never ends, or never stops writing, ends in an error.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

/// How much one render may do. The defaults are far above what real charts need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that all templates of a render may write, the ones included in others counted each time.
    pub output_bytes: usize,
    /// Nodes and iterations that a render may execute.
    pub steps: u64,
    /// How deep templates may call each other.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output_bytes: 256 << 20, steps: 50_000_000, depth: 1_000 }
    }
}

/// Helm refuses a template that is included in itself more often than this.
const MAX_INCLUDES: usize = 1_000;

pub(crate) struct Budget {
    limits: Limits,
    output: Cell<usize>,
    steps: Cell<u64>,
    depth: Cell<usize>,
    includes: RefCell<HashMap<String, usize>>,
}

/// Gives a level of depth back when it is dropped.
pub(crate) struct DepthGuard<'b> {
    budget: &'b Budget,
    include: Option<String>,
}

impl Drop for DepthGuard<'_> {
    fn drop(&mut self) {
        self.budget.depth.set(self.budget.depth.get().saturating_sub(1));
        if let Some(name) = &self.include
            && let Some(count) = self.budget.includes.borrow_mut().get_mut(name)
        {
            *count = count.saturating_sub(1);
        }
    }
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            output: Cell::new(0),
            steps: Cell::new(0),
            depth: Cell::new(0),
            includes: RefCell::new(HashMap::new()),
        }
    }

    pub(crate) fn step(&self) -> Result<(), String> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps);
        if steps > self.limits.steps {
            return Err(format!(
                "rendering stopped after {} steps: the chart may never end",
                self.limits.steps
            ));
        }
        Ok(())
    }

    pub(crate) fn output(&self, bytes: usize) -> Result<(), String> {
        let total = self.output.get().saturating_add(bytes);
        self.output.set(total);
        if total > self.limits.output_bytes {
            return Err(format!(
                "rendering stopped after {} bytes of output: the chart writes too much",
                self.limits.output_bytes
            ));
        }
        Ok(())
    }

    pub(crate) fn enter_depth(&self) -> Result<DepthGuard<'_>, String> {
        let depth = self.depth.get() + 1;
        if depth > self.limits.depth {
            return Err(format!("exceeded maximum template depth ({})", self.limits.depth));
        }
        self.depth.set(depth);
        Ok(DepthGuard { budget: self, include: None })
    }

    pub(crate) fn enter_include(&self, name: &str) -> Result<DepthGuard<'_>, String> {
        let nested =
            || format!("rendering template has a nested reference name: {name}: unable to execute template");
        {
            let mut includes = self.includes.borrow_mut();
            match includes.get_mut(name) {
                Some(count) if *count > MAX_INCLUDES => return Err(nested()),
                Some(count) => *count += 1,
                None => {
                    includes.insert(name.to_owned(), 1);
                }
            }
        }
        let depth = self.depth.get() + 1;
        self.depth.set(depth);
        let guard = DepthGuard { budget: self, include: Some(name.to_owned()) };
        // Templates that include each other in turn would pass Helm's count for a while; the depth stops them.
        if depth > self.limits.depth + 1 {
            return Err(nested());
        }
        Ok(guard)
    }
}
