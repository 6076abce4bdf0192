//! Who wants to hear of what. An event that nobody wants is never built: asking is one test of a bit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hookline_schemas::Client;
use hookline_schemas::access::AccessControl;
use hookline_schemas::event::{About, Event, HookPoint, HookSet};
use hookline_schemas::gate::Gate;
use hookline_schemas::ports::{Archive, Hook, Outcome};

use crate::clock;

/// The hooks of a broker. Which they are is fixed while it runs; what they want to hear of may change.
#[derive(Clone)]
pub struct Hooks {
    node: Arc<str>,
    /// What anybody wants to hear of.
    points: Arc<AtomicU32>,
    /// Each hook, with what it wants to hear of.
    hooks: Arc<[(Arc<dyn Hook>, AtomicU32)]>,
    gate: Option<Arc<dyn Gate>>,
    access: Option<Arc<dyn AccessControl>>,
    archive: Option<Arc<dyn Archive>>,
}

fn read(points: &AtomicU32) -> HookSet {
    HookSet::from_bits(points.load(Ordering::Relaxed))
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("points", &self.points()).field("count", &self.hooks.len()).finish()
    }
}

impl Hooks {
    /// Registers hooks; they are called in this order.
    pub fn new(node: &str, hooks: Vec<Arc<dyn Hook>>) -> Hooks {
        let hooks = hooks.into_iter().map(|hook| (hook, AtomicU32::default())).collect();
        let made = Hooks { node: node.into(), points: Arc::default(), hooks, gate: None, access: None, archive: None };
        made.refresh();
        made
    }

    /// Asks all hooks anew what they want to hear of.
    pub fn refresh(&self) {
        let mut all = HookSet::EMPTY;
        for (hook, points) in &*self.hooks {
            let wanted = hook.points();
            points.store(wanted.to_bits(), Ordering::Relaxed);
            all = all.union(wanted);
        }
        self.points.store(all.to_bits(), Ordering::Relaxed);
    }

    fn points(&self) -> HookSet {
        read(&self.points)
    }

    /// Puts a gate before all of them, which every message passes.
    #[must_use]
    pub fn behind(mut self, gate: Arc<dyn Gate>) -> Hooks {
        self.gate = Some(gate).filter(|gate| !gate.is_open());
        self
    }

    /// Has it decided who comes in, and what clients may do.
    #[must_use]
    pub fn guarded_by(mut self, access: Option<Arc<dyn AccessControl>>) -> Hooks {
        self.access = access;
        self
    }

    /// Has it bring what is kept outside for new subscriptions.
    #[must_use]
    pub fn supplied_by(mut self, archive: Option<Arc<dyn Archive>>) -> Hooks {
        self.archive = archive;
        self
    }

    /// Who brings what is kept outside.
    pub(crate) fn archive(&self) -> Option<&Arc<dyn Archive>> {
        self.archive.as_ref()
    }

    /// Who decides; `None`: everybody comes in.
    pub(crate) fn access(&self) -> Option<&Arc<dyn AccessControl>> {
        self.access.as_ref()
    }

    /// What messages pass first.
    pub(crate) fn gate(&self) -> Option<&Arc<dyn Gate>> {
        self.gate.as_ref()
    }

    /// Whether somebody wants to be told the time.
    pub(crate) fn has_clock(&self) -> bool {
        self.hooks.iter().any(|(hook, _)| hook.has_clock())
    }

    /// Tells the time to those who want it.
    pub(crate) fn tick(&self, now_ms: u64, outcome: &mut Outcome) {
        self.hooks.iter().filter(|(hook, _)| hook.has_clock()).for_each(|(hook, _)| hook.tick(now_ms, outcome));
    }

    /// Whether anybody listens.
    pub(crate) fn wants(&self, point: HookPoint) -> bool {
        self.points().contains(point)
    }

    /// Tells everybody who wants to hear of it.
    pub(crate) fn tell(&self, point: HookPoint, client: &Client, about: About<'_>, outcome: &mut Outcome) {
        if !self.wants(point) {
            return;
        }
        let event = Event { point, timestamp_ms: clock::now_ms(), node: &self.node, client, about };
        for (hook, _) in self.hooks.iter().filter(|(_, points)| read(points).contains(point)) {
            hook.on(&event, outcome);
        }
    }
}
