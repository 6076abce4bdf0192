//! What runs of the configuration beside the broker itself: actions, sources, rules. It can be changed while messages flow.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_access::Access;
use hookline_connectors::{Delivery, DeliveryHandle, IntakeHandle, Special};
use hookline_core::Hooks;
use hookline_core::store::{ActionQueue, Bounds, QueueKind, Store};
use hookline_rules::{Engine, Targets};
use hookline_schemas::Template;
use hookline_schemas::config::{Api, Config};
use hookline_schemas::ports::{Door, StateStore};
use serde_json::Value as Json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, Instant, sleep};

use crate::api::{self, Directory, Logins, Running};
use crate::persistence::Persistence;
use crate::serve::{sink, source};
use crate::telemetry::{Target, Telemetry};

/// How long an action that is removed may take to deliver what waits; the rest stays in the store.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// The sections of a configuration that can be changed while it runs.
const CHANGEABLE: [&str; 10] = [
    "api",
    "connectors",
    "actions",
    "sources",
    "rules",
    "authentication",
    "authorization",
    "client_attributes",
    "persistence",
    "telemetry",
];
/// Those of them that say who may.
const ACCESS: [&str; 3] = ["authentication", "authorization", "client_attributes"];

/// What of the broker the configuration is about.
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) engine: Arc<Engine>,
    /// Those that the rules are one of.
    pub(crate) hooks: Hooks,
    pub(crate) access: Arc<Access>,
    pub(crate) persistence: Arc<Persistence>,
    /// Who may use the API.
    pub(crate) logins: Arc<Logins>,
    /// Has the permissions of connected clients asked for anew.
    pub(crate) renew_rights: Arc<dyn Fn() + Send + Sync>,
    pub(crate) door: Arc<dyn Door>,
    pub(crate) telemetry: Arc<Telemetry>,
}

/// What runs.
pub(crate) struct Live {
    config: Config,
    /// What was accepted last: parts of it may wait for a restart.
    accepted: Json,
    parts: Parts,
    deliveries: BTreeMap<String, DeliveryHandle>,
    intakes: BTreeMap<String, IntakeHandle>,
}

/// What a change has changed, by name. What it names was also restarted, where it did not run before.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub(crate) struct Changes {
    pub(crate) actions: Vec<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) rules: Vec<String>,
    /// Who may: the sections, and connectors that are asked.
    pub(crate) access: Vec<String>,
    /// What is told to an OpenTelemetry collector, and where.
    #[serde(default)]
    pub(crate) telemetry: bool,
    /// What could not be started, and why. The next change tries it again.
    pub(crate) failed: Vec<String>,
    /// What was accepted, and changes with the next start of the broker only.
    #[serde(default)]
    pub(crate) restart: Vec<String>,
}

/// What is to become of a change of which a part needs a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Nothing of it is done.
    Whole,
    /// The rest of it is done now.
    AsFarAsPossible,
}

/// A wish to read the configuration again, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) extent: Extent,
    pub(crate) answer: oneshot::Sender<Reloaded>,
}

/// What came of a wish to read the configuration again: what has changed, or why nothing has.
pub(crate) type Reloaded = Result<Changes, Vec<String>>;

/// Where wishes to read the configuration again go.
pub(crate) type Reloads = mpsc::Sender<Wish>;

/// The queues of all actions, for rules to name.
pub(crate) fn targets(config: &Config, store: &Store) -> anyhow::Result<Targets> {
    let mut targets = Targets::new();
    for (name, action) in &config.actions {
        let bounds = Bounds { records_max: action.queue.records_max, bytes_max: action.queue.bytes_max, when_full: action.queue.when_full };
        let queue = store.action_queue(name, bounds)?;
        targets.insert(name.clone(), (queue.id(), action.promise()));
    }
    Ok(targets)
}

impl Live {
    /// Starts what the configuration says.
    pub(crate) fn start(config: Config, parts: Parts) -> anyhow::Result<Live> {
        let targets = targets(&config, &parts.store)?;
        let accepted = json(&config);
        let mut live = Live { config, accepted, parts, deliveries: BTreeMap::new(), intakes: BTreeMap::new() };
        for name in live.config.actions.keys().cloned().collect::<Vec<_>>() {
            live.start_delivery(&name, &targets)?;
        }
        for name in live.config.sources.keys().cloned().collect::<Vec<_>>() {
            live.start_intake(&name)?;
        }
        live.tell_of_orphans();
        Ok(live)
    }

    fn start_delivery(&mut self, name: &str, targets: &Targets) -> anyhow::Result<()> {
        let action = &self.config.actions[name];
        let fallback = action.fallback_actions.iter().filter_map(|name| targets.get(name)).map(|(queue, _)| *queue).collect();
        let undefined_as_text = action.undefined_as_text.then(|| placeholders(&action.parameters));
        let kind = self.config.connectors.get(&action.connector).map_or("", |connector| &connector.kind);
        let tracer = Some(self.parts.telemetry.of_action(name, &action.connector, kind));
        let special = Special { fallback, undefined_as_text, paused: api::is_paused(&self.parts.store, name)?, tracer };
        let sinks = (0..action.delivery.workers).map(|_| sink(&self.config, name)).collect::<Result<Vec<_>, _>>();
        let sinks = sinks.map_err(|errors| anyhow::anyhow!("{}", errors.join("; ")))?;
        let (queue, _) = targets[name];
        let queue = self.parts.store.queue(queue).ok_or_else(|| anyhow::anyhow!("the queue of {name} is not there"))?;
        let reader = Arc::new(ActionQueue::new(Arc::clone(&self.parts.store), queue));
        let delivery = Delivery::start(name, reader, sinks, action.delivery.clone(), special);
        self.deliveries.insert(name.to_owned(), delivery);
        Ok(())
    }

    fn start_intake(&mut self, name: &str) -> anyhow::Result<()> {
        if self.config.sources[name].enable {
            let source = source(&self.config, name).map_err(|errors| anyhow::anyhow!("{}", errors.join("; ")))?;
            self.intakes.insert(name.to_owned(), IntakeHandle::start(name, source, Arc::clone(&self.parts.door)));
        }
        Ok(())
    }

    fn tell_of_orphans(&self) {
        for queue in self.parts.store.queues() {
            let orphaned = queue.kind() == QueueKind::Action && !self.config.actions.contains_key(queue.name());
            let pending = queue.ledger().pending;
            if orphaned && pending > 0 {
                tracing::warn!(action = queue.name(), pending, "records wait for an action that is not configured any more");
            }
        }
    }

    /// What the API tells of.
    pub(crate) fn running(&self) -> Running {
        Running::new(&self.config, Arc::clone(&self.parts.engine), self.deliveries.values(), &self.intakes)
    }

    /// Changes what runs to another configuration, which was checked. Where it cannot be, nothing is, and the reasons come back. What was changed
    /// and cannot be started in the end is told, and does not keep the rest from what it is to do now.
    pub(crate) async fn change(&mut self, new: Config, extent: Extent) -> Reloaded {
        let accepted = json(&new);
        let restart = self.needs_restart(&new, &accepted);
        let surprising = restart.iter().filter(|part| part_of(&self.accepted, part) != part_of(&accepted, part));
        let surprising: Vec<&str> = surprising.map(String::as_str).collect();
        if extent == Extent::Whole && !surprising.is_empty() {
            return Err(vec![format!("changes in {} need a restart", surprising.join(", "))]);
        }
        if restart.is_empty() {
            let changes = self.change_now(new).await?;
            self.accepted = accepted;
            return Ok(changes);
        }
        let now = held_back(&self.config, new);
        let is_low = self.is_level_too_low(&now).is_some();
        // What could be changed may make no sense without what cannot: then all of it waits.
        let waits_whole = is_low || crate::serve::check(&now).is_err();
        let mut changes = if waits_whole { Changes::default() } else { self.change_now(now).await? };
        let running = json(&self.config);
        // What is left of "api" else is the address with its TLS, which are told by their own names.
        let waits = sections(&running, &accepted).into_iter().filter(|section| *section != "api" || waits_whole).map(str::to_owned);
        changes.restart = restart.into_iter().chain(waits).collect();
        changes.restart.sort_unstable();
        changes.restart.dedup();
        self.accepted = accepted;
        tracing::info!(parts = changes.restart.join(" "), "accepted; these parts of the configuration wait for a restart");
        Ok(changes)
    }

    /// The parts of a configuration that are another one's, and that do not change while the broker runs.
    fn needs_restart(&self, new: &Config, new_json: &Json) -> Vec<String> {
        let old_json = json(&self.config);
        let mut parts: Vec<String> =
            sections(&old_json, new_json).into_iter().filter(|section| !CHANGEABLE.contains(section)).map(str::to_owned).collect();
        parts.extend((self.config.api.bind != new.api.bind).then(|| "api.bind".to_owned()));
        parts.extend((self.config.api.tls != new.api.tls).then(|| "api.tls".to_owned()));
        parts
    }

    /// Why the store, as it was opened, does not do for the actions of a configuration.
    fn is_level_too_low(&self, new: &Config) -> Option<String> {
        let needed = hookline_core::store_settings(new).level;
        let is_low = needed.strongest(self.parts.store.level()) != self.parts.store.level();
        is_low.then(|| format!("an action asks for level {needed:?}, and the store was opened for less: that needs a restart"))
    }

    async fn change_now(&mut self, new: Config) -> Reloaded {
        let (old_json, new_json) = (json(&self.config), json(&new));
        let mut access: Vec<String> =
            ACCESS.iter().filter(|name| old_json[*name] != new_json[*name]).map(|name| (*name).to_owned()).collect();
        let asked = asked_connectors(&new).into_iter().filter(|name| old_json["connectors"][name] != new_json["connectors"][name]);
        access.extend(asked.map(|name| format!("connectors.{name}")));
        let asks_others = !access.is_empty();
        access.extend((old_json["api"] != new_json["api"]).then(|| "api".to_owned()));
        if let Some(problem) = self.is_level_too_low(&new) {
            return Err(vec![problem]);
        }
        // What could not be started before.
        let is_stopped = |kind: &str, name: &str| match kind {
            "actions" => new.actions.contains_key(name) && !self.deliveries.contains_key(name),
            "sources" => new.sources.get(name).is_some_and(|source| source.enable) && !self.intakes.contains_key(name),
            _ => false,
        };
        let changed = |kind: &str, connectors: bool| -> Vec<String> {
            let (old, new) = (&old_json[kind], &new_json[kind]);
            let names = old.as_object().into_iter().chain(new.as_object()).flatten().map(|(name, _)| name);
            let mut names: Vec<String> = names.cloned().collect();
            names.sort_unstable();
            names.dedup();
            let connector = |json: &Json, of: &Json| json["connectors"][of["connector"].as_str().unwrap_or_default()].clone();
            let differs = |name: &String| {
                let (before, after) = (&old[name.as_str()], &new[name.as_str()]);
                before != after || connectors && connector(&old_json, before) != connector(&new_json, after)
            };
            names.into_iter().filter(|name| differs(name) || is_stopped(kind, name)).collect()
        };
        let mut changes = Changes {
            actions: changed("actions", true),
            sources: changed("sources", true),
            rules: changed("rules", false),
            access,
            telemetry: old_json["telemetry"] != new_json["telemetry"],
            ..Changes::default()
        };
        // New queues first, so that rules can name them; then the rules, so that nothing more goes to what is removed.
        let targets = targets(&new, &self.parts.store).map_err(|error| vec![error.to_string()])?;
        let telemetry = Target::new(&new).map_err(|problem| vec![problem])?;
        let who_may = if asks_others { Some(crate::access::prepare(&new, Arc::clone(&self.parts.state))?) } else { None };
        self.parts
            .engine
            .replace(&new.rules, &targets, Some(&self.parts.state))
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let keeps_others = old_json["persistence"] != new_json["persistence"]
            || new.persistence.values().any(|one| old_json["connectors"][&one.connector] != new_json["connectors"][&one.connector]);
        if keeps_others {
            self.parts.persistence.change(&new, &self.parts.store).await?;
        }
        self.parts.telemetry.change(telemetry);
        // From here on messages are judged by the new rules.
        self.parts.hooks.refresh();
        if let Some(prepared) = who_may {
            self.parts.access.replace(prepared);
            (self.parts.renew_rights)();
        }
        // What is checked by now can be opened.
        self.parts.logins.change(&new.api, Directory::open(&new)?);
        self.config = new;
        for name in &changes.sources {
            if let Some(intake) = self.intakes.remove(name) {
                intake.stop().await;
            }
            if self.config.sources.contains_key(name) {
                changes.failed.extend(self.start_intake(name).err().map(|error| format!("sources.{name}: {error}; it does not run")));
            }
        }
        let removed = self.deliveries.iter().filter(|(name, _)| !self.config.actions.contains_key(*name));
        drain(removed.map(|(_, delivery)| delivery)).await;
        for name in &changes.actions {
            if let Some(delivery) = self.deliveries.remove(name) {
                delivery.stop().await;
            }
            if self.config.actions.contains_key(name) {
                changes
                    .failed
                    .extend(self.start_delivery(name, &targets).err().map(|error| format!("actions.{name}: {error}; its records wait")));
            }
        }
        self.tell_of_orphans();
        tracing::info!(
            actions = changes.actions.join(" "),
            sources = changes.sources.join(" "),
            rules = changes.rules.join(" "),
            access = changes.access.join(" "),
            telemetry = changes.telemetry,
            "changed while running"
        );
        if !changes.failed.is_empty() {
            tracing::error!(problems = changes.failed.join("; "), "changed while running, but for what cannot be started");
        }
        Ok(changes)
    }

    /// Stops what comes in.
    pub(crate) async fn stop_intakes(&mut self) {
        for (_, intake) in std::mem::take(&mut self.intakes) {
            intake.stop().await;
        }
    }

    /// Lets the sinks take what is left, for a while, and stops them.
    pub(crate) async fn stop(self) {
        drain(self.deliveries.values()).await;
        for (name, delivery) in self.deliveries {
            let ledger = delivery.ledger();
            delivery.stop().await;
            tracing::info!(
                action = name,
                accepted = ledger.accepted,
                delivered = ledger.delivered,
                dead_lettered = ledger.dead_lettered,
                dropped = ledger.dropped,
                pending = ledger.pending,
                "ledger"
            );
        }
    }
}

fn json(config: &Config) -> Json {
    serde_json::to_value(config).unwrap_or_default()
}

/// The connectors by which logins and permissions are asked for.
pub(crate) fn asked_connectors(config: &Config) -> Vec<&str> {
    let logins = config.authentication.iter();
    let logins =
        logins.flat_map(|one| [one.connector.as_deref(), one.jwt.as_ref().and_then(|jwt| jwt.jwks.as_ref()).map(|jwks| &*jwks.connector)]);
    let people = config.api.ldap.iter().map(|ldap| Some(&*ldap.connector));
    logins.chain(config.authorization.sources.iter().map(|source| source.connector.as_deref())).chain(people).flatten().collect()
}

/// The configuration that runs, with what of another one can be changed while it does: the sections of [`CHANGEABLE`], but for the API's address and TLS.
fn held_back(running: &Config, new: Config) -> Config {
    Config {
        api: Api { bind: running.api.bind, tls: running.api.tls.clone(), ..new.api },
        connectors: new.connectors,
        actions: new.actions,
        sources: new.sources,
        rules: new.rules,
        authentication: new.authentication,
        authorization: new.authorization,
        client_attributes: new.client_attributes,
        persistence: new.persistence,
        telemetry: new.telemetry,
        ..running.clone()
    }
}

/// A part of a configuration, such as `mqtt` or `api.bind`.
fn part_of<'a>(config: &'a Json, part: &str) -> &'a Json {
    part.split('.').fold(config, |value, key| &value[key])
}

/// The sections that differ.
fn sections<'a>(old: &'a Json, new: &'a Json) -> Vec<&'a str> {
    let names = old.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    names.filter(|name| old[*name] != new[*name]).collect()
}

/// Gives the sinks that can take it the time to take what is left.
async fn drain(deliveries: impl Iterator<Item = &DeliveryHandle> + Clone) {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    let is_draining = |delivery: &DeliveryHandle| {
        let takes = delivery.state() == hookline_connectors::ActionState::Connected && !delivery.is_paused();
        takes && delivery.ledger().pending > 0
    };
    while Instant::now() < deadline && deliveries.clone().any(is_draining) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Every placeholder in the templates of an action, without that of the record's own identifier, which is never missing.
fn placeholders(parameters: &serde_json::Map<String, Json>) -> Vec<Vec<String>> {
    fn collect(value: &Json, found: &mut Vec<Vec<String>>) {
        match value {
            Json::String(text) => {
                let template = Template::parse(text).ok();
                let paths = template.iter().flat_map(Template::paths).filter(|path| !matches!(path, [name] if &**name == "hookline_id"));
                found.extend(paths.map(|path| path.iter().map(ToString::to_string).collect()));
            }
            Json::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Json::Object(map) => map.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    parameters.values().for_each(|value| collect(value, &mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_changed_is_and_the_rest_is_held_back() {
        let text = r#"
            [api]
            bind = "127.0.0.1:1"
            metrics_open = false
            [connectors.c]
            type = "file"
            [actions.a]
            connector = "c"
            [sources.s]
            connector = "c"
            [rules.r]
            sql = ""
            actions = []
            [authorization]
            refresh_secs = 77
            [client_attributes]
            x = "y"
            [[authentication]]
            name = "n"
            [persistence.p]
            connector = "c"
            [telemetry]
            sample_ratio = 0.5
            [mqtt]
            inflight_max = 7
        "#;
        let table: toml::Table = text.parse().expect("valid");
        let new: Config = serde_json::from_value(serde_json::to_value(table).expect("JSON")).expect("a configuration");
        let (old_json, new_json) = (json(&Config::default()), json(&new));
        let held = held_back(&Config::default(), new);
        let held_json = json(&held);
        for section in CHANGEABLE {
            assert!(new_json[section] != old_json[section], "{section} is missing in the test");
            assert!(held_json[section] == new_json[section] || section == "api", "{section}");
        }
        assert!(held.api.bind.is_none() && !held.api.metrics_open && held_json["mqtt"] == old_json["mqtt"]);
    }
}
