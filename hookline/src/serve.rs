//! The broker, put together from its configuration, and taken down in the order of the line.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use hookline_access::{Access, BuiltIn};
use hookline_connectors::{SettingsError, Sink, Source, kind, registry};
use hookline_core::store::Store;
use hookline_core::{Broker, Hooks, Observer, Recorder};
use hookline_rules::error::did_you_mean;
use hookline_rules::function::{KvBackend, install_kv_backend};
use hookline_rules::schema::{self, Registry};
use hookline_rules::{Engine, Ingress, Targets};
use hookline_schemas::access::AccessControl;
use hookline_schemas::config::{Config, Connector, Log, LogFormat, WhenFull};
use hookline_schemas::ports::{AckMode, Archive, Hook, StateStore};
use hookline_schemas::{QueueId, Template};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing_subscriber::filter::Targets as LogFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::access;
use crate::api::{self, Api, Directory, FIRST, Logins, Network, Publisher, Running};
use crate::config::{self, Errors, Loaded, Secrets, Sources, Versions};
use crate::live::{self, Extent, Live, Reloaded, Reloads, Wish};
use crate::persistence::{self, Persistence, Subscribing};
use crate::telemetry::{self, LogLayer, Telemetry};
use crate::trace::TraceSource;

/// How long a clean end waits for the sinks to take what is left; the rest stays in the store.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How often it is looked whether the file of a secret has changed.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the broker until it is told to end.
pub(crate) fn run(sources: Sources, ready_file: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let loaded = config::load(sources.clone()).and_then(|loaded| {
        check(&loaded.config)?;
        Ok(loaded)
    });
    let Loaded { config, origin, secrets } = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(2));
        }
    };
    let telemetry = Arc::new(Telemetry::new(&config).map_err(anyhow::Error::msg)?);
    start_log(&config.log, telemetry.log_layer())?;
    let data_dir = make_data_dir(&config.node.data_dir)?;
    let opened = Store::open(&config.node.data_dir, &config.node.name, &hookline_core::store_settings(&config))?;
    let store = Arc::clone(&opened.store);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("service").build()?;
    let recorder = Recorder::start(&config.recorder, &store).context("cannot start the recorder")?;
    let served = runtime.block_on(async {
        let targets = live::targets(&config, &store)?;
        let state: Arc<dyn StateStore> = Arc::<Store>::clone(&store);
        if config.rule_engine.kv_store_durable {
            install_kv_backend(Box::new(KvTable(Arc::clone(&state)))).context("rule_engine.kv_store_durable")?;
        }
        let (ingress, schemas) = ingress(&config).map_err(|errors| anyhow::anyhow!("{}", errors.join("; ")))?;
        schema::install(Arc::new(schemas));
        let engine = Engine::new(&config.rules, &targets, Some(&state)).map_err(|errors| anyhow::anyhow!("{}", errors[0]))?;
        let engine = Arc::new(engine);
        let mut told: Vec<Arc<dyn Hook>> = vec![telemetry.first_hook(), Arc::<Engine>::clone(&engine)];
        told.extend(recorder.as_ref().map(Recorder::hook));
        let traces = TraceSource::new();
        told.push(traces.hook());
        let prepared = access::prepare(&config, Arc::clone(&state)).map_err(|errors| anyhow::anyhow!("{}", errors.join("; ")))?;
        let access = Arc::new(Access::new(prepared));
        let persistence = Arc::new(Persistence::new());
        persistence.change(&config, &store).await.map_err(|errors| anyhow::anyhow!("{}", errors.join("; ")))?;
        told.push(Arc::<Persistence>::clone(&persistence));
        told.push(telemetry.last_hook());
        let guard: Arc<dyn AccessControl> =
            Arc::new(Subscribing { access: Arc::<Access>::clone(&access), persistence: Arc::clone(&persistence) });
        let archive: Arc<dyn Archive> = Arc::<Persistence>::clone(&persistence);
        let hooks = Hooks::new(&config.node.name, told).behind(Arc::new(ingress)).guarded_by(Some(guard)).supplied_by(Some(archive));
        let broker = Broker::start(&config, opened, hooks.clone())?;
        let traces =
            Arc::new(traces.start(&config.node.data_dir, hooks.clone()).context("cannot make a folder for traces in the data folder")?);
        let renew_rights: Arc<dyn Fn() + Send + Sync> = Arc::new(broker.renew_rights());
        let clients =
            api::Clients { access: Arc::clone(&access), users: BuiltIn::new(Arc::clone(&state)), renew_rights: Arc::clone(&renew_rights) };
        let directory = Directory::open(&config).map_err(|errors| anyhow::anyhow!("{}", errors.join("\n")))?;
        let logins = Arc::new(Logins::new(Arc::clone(&state), &config.api, directory));
        let parts = live::Parts {
            store: Arc::clone(&store),
            state,
            engine: Arc::clone(&engine),
            hooks,
            access,
            persistence: Arc::clone(&persistence),
            logins: Arc::clone(&logins),
            renew_rights,
            door: broker.door(),
            telemetry: Arc::clone(&telemetry),
        };
        let mut live = Live::start(config.clone(), parts)?;
        persistence.serve(broker.observer());
        let (reloads, mut wanted) = mpsc::channel(1);
        let running = Arc::new(ArcSwap::from_pointee(live.running()));
        telemetry.start(metrics(&broker.observer(), &running, &store, &telemetry));
        let (network, first) = open_api(&config, &origin, &logins).await?;
        let mut addresses = broker.addresses().to_vec();
        addresses.extend(network.as_ref().and_then(|network| Some(("api".to_owned(), network.listener.local_addr().ok()?))));
        let parts = api::Parts {
            store: Arc::clone(&store),
            running: Arc::clone(&running),
            reloads: reloads.clone(),
            clients: Arc::new(clients),
            observer: broker.observer(),
            logins,
            publisher: Arc::new(Publisher::new(broker.door())),
            traces: Arc::clone(&traces),
            telemetry: Arc::clone(&telemetry),
            versions: Versions::open(&sources, &origin, &config.node.data_dir),
        };
        let api = Api::start(&config.node.data_dir, network, parts);
        greet(&origin, &data_dir, &config, &addresses, first.as_deref());
        let listeners: Vec<String> = addresses.iter().map(|(name, address)| format!("{name}={address}")).collect();
        tracing::info!(listeners = listeners.join(" "), data = %data_dir, "hookline is ready");
        let readiness = Readiness::announce(ready_file)?;
        warn_of_strangers(&config);
        let mut stop = Stop::new(reloads)?;
        let mut secrets = secrets;
        // A change that could not be taken over is tried again.
        let mut is_owed = false;
        let mut looks = interval(SECRETS_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let why = loop {
            let Wish { extent, answer } = tokio::select! {
                why = stop.wait() => break why,
                Some(wish) = wanted.recv() => wish,
                _ = looks.tick() => {
                    if !have_changed(&mut secrets).await && !is_owed {
                        continue;
                    }
                    tracing::info!("a file of a secret has changed; the configuration is read again");
                    is_owed = true;
                    Wish { extent: Extent::Whole, answer: oneshot::channel().0 }
                }
            };
            let changed = reload(&mut live, &sources, &mut secrets, extent).await;
            is_owed &= changed.is_err();
            running.store(Arc::new(live.running()));
            // Who has asked may be gone.
            drop(answer.send(changed));
        };
        tracing::info!(signal = why, "stopping");
        drop(readiness);
        // Nothing below may wait longer: what is not done then is left to the next start.
        let deadline = Instant::now() + Duration::from_secs(config.node.stop_timeout_secs);
        last_resort(deadline);
        api.stop().await;
        live.stop_intakes().await;
        let totals = broker.totals();
        broker.stop().await;
        traces.stop();
        persistence.stop().await;
        engine.keep();
        for stats in engine.stats() {
            tracing::info!(
                rule = stats.rule,
                matched = stats.matched,
                passed = stats.passed,
                no_result = stats.no_result,
                exception = stats.exception,
                actions = stats.actions_total,
                actions_failed = stats.actions_failed,
                "rule"
            );
        }
        live.stop().await;
        tracing::info!(connected = totals.connected, received = totals.received, sent = totals.sent, refused = totals.refused, "stopped");
        telemetry.stop().await;
        anyhow::Ok(())
    });
    // The workers are gone: what they gave it is all.
    if let Some(stats) = recorder.map(Recorder::stop) {
        tracing::info!(seen = stats.seen, recorded = stats.recorded, dropped = stats.dropped, "recorder");
    }
    store.close();
    served.map(|()| ExitCode::SUCCESS)
}

/// Reads the configuration again, and changes what can be changed while it runs.
async fn reload(live: &mut Live, sources: &Sources, secrets: &mut Secrets, extent: Extent) -> Reloaded {
    let sources = sources.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let loaded = config::load(sources)?;
        check(&loaded.config)?;
        Ok::<_, Errors>(loaded)
    });
    let result = match loaded.await {
        Ok(Ok(Loaded { config, secrets: read, .. })) => {
            *secrets = read;
            live.change(config, extent).await
        }
        Ok(Err(Errors { errors, .. })) => Err(errors),
        Err(error) => Err(vec![error.to_string()]),
    };
    if let Err(errors) = &result {
        tracing::error!(problems = errors.join("; "), "nothing was changed");
    }
    result
}

/// Whether a file of a secret says something else by now. Each change counts once.
async fn have_changed(secrets: &mut Secrets) -> bool {
    let mut looked = secrets.clone();
    match tokio::task::spawn_blocking(move || (looked.have_changed(), looked)).await {
        Ok((changed, looked)) => {
            *secrets = looked;
            changed
        }
        Err(error) => {
            tracing::error!(%error, "cannot look at the files of secrets");
            false
        }
    }
}

/// Listens for the API over the network, where that is wanted; the password of the administrator that this start has made. A second broker with the
/// built-in configuration goes without it.
async fn open_api(config: &Config, origin: &str, logins: &Logins) -> anyhow::Result<(Option<Network>, Option<String>)> {
    let Some(bind) = config.api.bind else { return Ok((None, None)) };
    let tls = config.api.tls.as_ref().map(api::open_tls).transpose().map_err(anyhow::Error::msg)?;
    let listener = match TcpListener::bind(bind).await {
        Ok(listener) => listener,
        Err(error) if origin == config::BUILT_IN_NAME => {
            tracing::warn!(%bind, %error, "the API over the network has no place to listen; api.bind names another");
            return Ok((None, None));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("api.bind: cannot listen on {bind}; another address, or none, will do"));
        }
    };
    let first = if config.api.keys.is_empty() { logins.first().map_err(|problem| anyhow::anyhow!("{problem}"))? } else { None };
    Ok((Some(Network { listener, tls }), first))
}

/// Says where clients come in that have proven nothing.
fn warn_of_strangers(config: &Config) {
    let zones = config.zones.iter().filter_map(|(name, zone)| Some((name.as_str(), zone.mqtt.get("allow_anonymous")?.as_bool()?)));
    let zones = std::iter::once(("default", config.mqtt.allow_anonymous)).chain(zones);
    for (zone, _) in zones.filter(|(_, allowed)| *allowed) {
        if config.authentication.is_empty() {
            tracing::warn!(zone, "clients need not prove who they are (mqtt.allow_anonymous): whoever reaches a listener may come in");
        } else {
            tracing::warn!(
                zone,
                "clients that say no user name come in without any proof (mqtt.allow_anonymous), beside those that authenticate"
            );
        }
    }
}

/// Everything that can be known to be wrong before anything is opened.
pub(crate) fn check(config: &Config) -> Result<(), Errors> {
    let mut errors = Vec::new();
    if config.node.name.is_empty() || config.node.name.contains(':') {
        errors.push("node.name: must not be empty or contain \":\"".to_owned());
    }
    for (name, connector) in config.connectors.iter().filter(|(_, connector)| registry::find(&connector.kind).is_none()) {
        let known: Vec<&str> = registry::REGISTRY.iter().map(|kind| kind.name).collect();
        errors.push(format!("connectors.{name}.type: there is no \"{}\"; there are {}", connector.kind, known.join(", ")));
    }
    for name in config.actions.keys() {
        if let Err(mut problems) = sink(config, name) {
            errors.append(&mut problems);
        }
    }
    for name in config.sources.keys() {
        errors.extend(source(config, name).err().unwrap_or_default());
    }
    errors.extend(hookline_core::check(config));
    errors.extend(telemetry::check(config));
    errors.extend(access::check(config));
    errors.extend(persistence::check(config));
    errors.extend(api::check(&config.api));
    errors.extend(Directory::open(config).err().unwrap_or_default());
    let targets: Targets = config.actions.iter().map(|(name, action)| (name.clone(), (QueueId(0), action.promise()))).collect();
    if let Err(problems) = Engine::new(&config.rules, &targets, None) {
        errors.extend(problems.iter().map(ToString::to_string));
    }
    for (name, action) in &config.actions {
        errors.extend(delivery_problems(&action.delivery).map(|problem| format!("actions.{name}.delivery.{problem}")));
        if action.delivery.workers > 1 && action.parameters.contains_key("transactional_id") {
            errors.push(format!("actions.{name}.delivery.workers: must be 1 with a transactional_id, which is one producer's alone"));
        }
        if action.ack == AckMode::Delivered && action.queue.when_full != WhenFull::Refuse {
            errors.push(format!(
                "actions.{name}.queue.when_full: must be \"refuse\" with ack = \"delivered\", because what is dropped is never delivered"
            ));
        }
        for fallback in action.fallback_actions.iter().filter(|fallback| !config.actions.contains_key(*fallback) || *fallback == name) {
            errors.push(format!("actions.{name}.fallback_actions: \"{fallback}\" must be another action in [actions]"));
        }
        if !action.fallback_actions.contains(name) && falls_back_to_itself(config, name) {
            errors.push(format!(
                "actions.{name}.fallback_actions: by them a record may come back to \"{name}\", and would go round for ever; let the chain end"
            ));
        }
    }
    errors.extend(ingress(config).err().unwrap_or_default());
    errors.dedup();
    if errors.is_empty() { Ok(()) } else { Err(Errors { origin: "the configuration".into(), errors }) }
}

/// What is wrong with the settings of a delivery.
fn delivery_problems(settings: &hookline_schemas::config::Delivery) -> impl Iterator<Item = String> {
    let workers = !(1..=64).contains(&settings.workers);
    let problems = [
        workers.then(|| "workers: must be 1 to 64".to_owned()),
        (settings.batch_records_max == 0).then(|| "batch_records_max: must be 1 or more".to_owned()),
        (settings.batch_bytes_max == 0).then(|| "batch_bytes_max: must be 1 or more".to_owned()),
        (settings.batch_wait_ms > 60_000).then(|| "batch_wait_ms: must be a minute (60000) or less".to_owned()),
        (settings.attempt_timeout_secs == 0).then(|| "attempt_timeout_secs: must be 1 or more".to_owned()),
        Template::parse(&settings.order_key).err().map(|error| format!("order_key: {error}")),
    ];
    problems.into_iter().flatten()
}

/// Whether what an action cannot take may come back to it.
fn falls_back_to_itself(config: &Config, action: &str) -> bool {
    let fallbacks = |name: &str| config.actions.get(name).into_iter().flat_map(|action| action.fallback_actions.iter().map(String::as_str));
    let mut next: Vec<&str> = fallbacks(action).collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = next.pop() {
        if name == action {
            return true;
        }
        if seen.insert(name) {
            next.extend(fallbacks(name));
        }
    }
    false
}

/// What messages pass before rules hear of them, and the schemas that it uses.
fn ingress(config: &Config) -> Result<(Ingress, Registry), Vec<String>> {
    let registry = Registry::new(&config.schemas, &|path| std::fs::read_to_string(path))
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let ingress = Ingress::new(&config.node.name, &config.validations, &config.transformations, &registry)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok((ingress, registry))
}

/// What `kv_store_put` remembers, in the store.
struct KvTable(Arc<dyn StateStore>);

/// Where it is there.
const KV_PREFIX: &[u8] = b"kv/";

impl KvBackend for KvTable {
    fn load(&self) -> std::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let pairs = self.0.load(KV_PREFIX).map_err(std::io::Error::other)?;
        Ok(pairs.into_iter().map(|(key, value)| (key[KV_PREFIX.len()..].to_vec(), value)).collect())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        self.0.keep(&[KV_PREFIX, key].concat(), Some(value)).map_err(std::io::Error::other)
    }

    fn delete(&self, key: &[u8]) -> std::io::Result<()> {
        self.0.keep(&[KV_PREFIX, key].concat(), None).map_err(std::io::Error::other)
    }
}

/// The sink of an action, not connected yet.
pub(crate) fn sink(config: &Config, name: &str) -> Result<Box<dyn Sink>, Vec<String>> {
    if let Some(sink) = persistence::sink(config, name) {
        return sink;
    }
    let action = &config.actions[name];
    let connector = find_connector(config, &action.connector).map_err(|problem| vec![format!("actions.{name}.connector: {problem}")])?;
    // An unknown type is told with its connector.
    let Some(kind) = registry::find(&connector.kind) else { return Err(Vec::new()) };
    let Some(make) = kind.sink else {
        return Err(vec![format!(
            "actions.{name}.connector: \"{}\" is of type {}, which nothing is written to",
            action.connector, kind.name
        )]);
    };
    make(&connector.settings, &action.parameters, &config.node.data_dir)
        .map_err(|errors| errors.iter().map(|error| settings_error(error, &format!("actions.{name}."), &action.connector)).collect())
}

/// A source, not connected yet.
pub(crate) fn source(config: &Config, name: &str) -> Result<Box<dyn Source>, Vec<String>> {
    let settings = &config.sources[name];
    let connector = find_connector(config, &settings.connector).map_err(|problem| vec![format!("sources.{name}.connector: {problem}")])?;
    let Some(kind) = registry::find(&connector.kind) else { return Err(Vec::new()) };
    let Some(make) = kind.source else {
        return Err(vec![format!(
            "sources.{name}.connector: \"{}\" is of type {}, from which nothing comes",
            settings.connector, kind.name
        )]);
    };
    make(&connector.settings, &settings.parameters, &config.node.name)
        .map_err(|errors| errors.iter().map(|error| settings_error(error, &format!("sources.{name}."), &settings.connector)).collect())
}

/// The connector of a name; names a similar one where there is none.
pub(crate) fn find_connector<'a>(config: &'a Config, name: &str) -> Result<&'a Connector, String> {
    config.connectors.get(name).ok_or_else(|| {
        let hint = did_you_mean(name, config.connectors.keys().map(String::as_str)).map(|near| format!("; did you mean \"{near}\"?"));
        format!("there is no \"{name}\" in [connectors]{}", hint.unwrap_or_default())
    })
}

/// An error in the settings of a connector, or in the parameters of what stands at `at` and uses it.
pub(crate) fn settings_error(error: &SettingsError, at: &str, connector: &str) -> String {
    let rest = error.path.strip_prefix(kind::CONNECTOR);
    let path = rest.map_or_else(|| format!("{at}{}", error.path), |rest| format!("connectors.{connector}{rest}"));
    match error.problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(field) => format!("{path}.{field}: missing"),
        None => format!("{path}: {}", error.problem),
    }
}

/// Where telemetry gets the metrics from.
fn metrics(observer: &Observer, running: &Arc<ArcSwap<Running>>, store: &Arc<Store>, telemetry: &Arc<Telemetry>) -> telemetry::Metrics {
    let (observer, running, store, telemetry) = (observer.clone(), Arc::clone(running), Arc::clone(store), Arc::downgrade(telemetry));
    Arc::new(move || {
        let Some(telemetry) = telemetry.upgrade() else { return Vec::new() };
        api::families(&observer, &running.load(), &store, &telemetry).unwrap_or_else(|problem| {
            tracing::warn!(%problem, "the metrics cannot be seen");
            Vec::new()
        })
    })
}

fn start_log(settings: &Log, telemetry: LogLayer) -> anyhow::Result<()> {
    let filter: LogFilter = settings.level.parse().with_context(|| format!("log.level: \"{}\" is no level", settings.level))?;
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter).with(telemetry);
    match settings.format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
    Ok(())
}

/// Makes the data folder; its path as people can find it.
fn make_data_dir(folder: &Path) -> anyhow::Result<String> {
    let way_out = || format!("cannot use the data folder {}; choose another with --data, or make this one writable", folder.display());
    std::fs::create_dir_all(folder).with_context(way_out)?;
    let probe = folder.join(".writable");
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).with_context(way_out)?;
    let absolute = std::fs::canonicalize(folder).with_context(way_out)?;
    Ok(absolute.display().to_string())
}

/// Tells a person what runs, where, and what to try.
fn greet(origin: &str, data_dir: &str, config: &Config, addresses: &[(String, SocketAddr)], first: Option<&str>) {
    println!("\nHookline {} with {origin}", env!("CARGO_PKG_VERSION"));
    for (_, address) in addresses.iter().filter(|(name, _)| name == "api") {
        let what = if api::has_dashboard() { "dashboard" } else { "API      " };
        let scheme = if config.api.tls.is_some() { "https" } else { "http" };
        println!("  {what} {scheme}://{address}  (API at /api/v5, metrics at /metrics)");
    }
    if let Some(password) = first {
        println!("            log in as {FIRST} with {password}; it is shown this once, `hookline ctl admins set {FIRST}` sets another");
    }
    for (name, address) in addresses.iter().filter(|(name, _)| name != "api") {
        let scheme = match name.split('.').next() {
            Some("tls") => "mqtts",
            Some("ws") => "ws",
            Some("wss") => "wss",
            _ => "mqtt",
        };
        let path = match (scheme, name.split_once('.')) {
            ("ws", Some((_, name))) => config.listeners.ws.get(name),
            ("wss", Some((_, name))) => config.listeners.wss.get(name),
            _ => None,
        };
        let path = path.map_or("", |listener| listener.websocket.path.as_str());
        println!("  MQTT      {scheme}://{address}{path}  ({name})");
    }
    println!("  data      {data_dir}");
    for (name, rule) in config.rules.iter().filter(|(_, rule)| rule.enable) {
        println!("  rule      {name}  {}", rule.description);
    }
    let Some((_, address)) = addresses.first() else { return };
    let port = if address.port() == 1883 { String::new() } else { format!(" -p {}", address.port()) };
    // As it was started, so that the lines can be copied.
    let own = std::env::args().next().unwrap_or_else(|| "hookline".into());
    println!("\nTry it, in another terminal:");
    println!("  {own} sub{port} -v -t 'demo/#'");
    println!("  {own} pub{port} -t demo/hello -m '{{\"temperature\": 21.5}}'");
    if origin == config::BUILT_IN_NAME {
        println!("  sqlite3 {data_dir}/audit.db \"SELECT at, event, clientid, topic, payload FROM events ORDER BY at DESC LIMIT 10\"");
    }
    println!();
}

/// Ends the process where a clean end takes too long, such as behind a disk that does not answer. What was acknowledged is kept.
fn last_resort(deadline: Instant) {
    let wait = deadline.saturating_duration_since(Instant::now()) + DRAIN_TIMEOUT;
    let watchdog = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        std::thread::sleep(wait);
        eprintln!("hookline: the clean end takes too long; ending at once, the rest is done by the next start");
        std::process::exit(1);
    });
    // Without it the end has no bound, and that is all: it is never joined, because it ends with the process.
    if let Err(error) = watchdog {
        tracing::warn!(%error, "cannot watch over the clean end");
    }
}

/// Tells whoever has started the broker that it serves, or stops.
struct Readiness {
    file: Option<PathBuf>,
}

impl Readiness {
    fn announce(file: Option<PathBuf>) -> anyhow::Result<Readiness> {
        if let Some(file) = &file {
            std::fs::write(file, format!("{}\n", std::process::id()))
                .with_context(|| format!("cannot write the ready file {}", file.display()))?;
        }
        // Without systemd there is nobody to tell.
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            tracing::warn!(%error, "cannot tell systemd that the broker is ready");
        }
        Ok(Readiness { file })
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Stopping]) {
            tracing::warn!(%error, "cannot tell systemd that the broker stops");
        }
        if let Some(file) = &self.file
            && let Err(error) = std::fs::remove_file(file)
        {
            tracing::warn!(%error, file = %file.display(), "cannot remove the ready file");
        }
    }
}

/// The signals that end the broker.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// The terminal was closed; without one, the configuration is to be read again.
    hangup: tokio::signal::unix::Signal,
    reloads: Reloads,
}

impl Stop {
    fn new(reloads: Reloads) -> std::io::Result<Stop> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            reloads,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = Stop::hung_up(&mut self.hangup, &self.reloads) => "SIGHUP",
        }
    }

    /// The end of the terminal that the broker runs in. Without one the signal is somebody's wish for a reload.
    async fn hung_up(hangup: &mut tokio::signal::unix::Signal, reloads: &Reloads) {
        while hangup.recv().await.is_some() {
            if std::io::stderr().is_terminal() {
                return;
            }
            // Where one waits already, that one reads the file.
            drop(reloads.try_send(Wish { extent: Extent::Whole, answer: oneshot::channel().0 }));
        }
        std::future::pending().await
    }
}
