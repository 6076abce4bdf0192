//! The REST API, under /api/v5: on the socket in the data folder for the commands, and over the network for who can log in. Answers are JSON; what was
//! refused is `{"code": …, "message": …}`.

pub(crate) mod access;
pub(crate) mod actions;
mod answer;
pub(crate) mod audit;
mod banned;
mod caller;
pub(crate) mod configs;
mod connectors;
mod dashboard;
pub(crate) mod data;
pub(crate) mod dead_letters;
mod directory;
mod drops;
mod extract;
mod history;
mod listings;
mod login;
mod monitor;
mod network;
mod openapi;
mod prometheus;
mod publish;
mod reload;
mod routes;
pub(crate) mod rule_metrics;
mod rules;
mod running;
mod shapes;
mod socket;
pub(crate) mod sources;
mod store;
mod traces;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::{Extension, Router, middleware};
use hookline_core::store::Store;
use hookline_core::{Observer, TlsServer};
use tokio::net::TcpListener;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinHandle;

use crate::config::Versions;
use crate::export::Exports;
use crate::live::Reloads;
use crate::telemetry::Telemetry;
use crate::trace::Traces;
pub(crate) use access::Clients;
pub(crate) use actions::is_paused;
use answer::{Answer, Noted};
pub(crate) use answer::{Code, Problem};
use audit::{Trace, Traced};
pub(crate) use caller::Way;
use caller::{Caller, Peer};
use configs::Configs;
pub(crate) use dashboard::is_there as has_dashboard;
pub(crate) use directory::Directory;
use extract::Json;
use history::History;
pub(crate) use login::{FIRST, Logins, NewPerson, PersonInfo, check, check_person};
pub(crate) use monitor::Page;
pub(crate) use network::open_tls;
pub(crate) use prometheus::{Family, Labels, Samples, families};
pub(crate) use publish::Publisher;
pub(crate) use running::Running;

/// How long the end waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The API, serving.
#[derive(Debug)]
pub(crate) struct Api {
    served: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
    _file: Option<socket::SocketFile>,
}

/// Where the API listens.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<TlsServer>>,
}

/// What the API is about.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) store: Arc<Store>,
    /// The rules and actions of the configuration.
    pub(crate) running: Arc<ArcSwap<Running>>,
    pub(crate) reloads: Reloads,
    pub(crate) clients: Arc<Clients>,
    pub(crate) observer: Observer,
    pub(crate) logins: Arc<Logins>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) traces: Arc<Traces>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// The file of the configuration, where there is one.
    pub(crate) versions: Option<Versions>,
}

/// What handlers work with.
#[derive(Debug, Clone)]
struct Shared {
    store: Arc<Store>,
    running: Arc<ArcSwap<Running>>,
    reloads: Reloads,
    clients: Arc<Clients>,
    observer: Observer,
    logins: Arc<Logins>,
    publisher: Arc<Publisher>,
    traces: Arc<Traces>,
    exports: Arc<Exports>,
    telemetry: Arc<Telemetry>,
    history: Arc<History>,
    configs: Option<Arc<Configs>>,
    /// Held by what reads or writes the whole store: one at a time.
    whole_store: Arc<tokio::sync::Mutex<()>>,
    /// The broker stops: what takes long is to end.
    stopping: Arc<AtomicBool>,
}

impl Api {
    /// Starts to listen in the data folder, whose store this process has open, and on `network`. Without the socket the broker serves all the same.
    pub(crate) fn start(data_dir: &Path, network: Option<Network>, parts: Parts) -> Api {
        let listening = socket::listen(data_dir).inspect_err(|problem| {
            tracing::warn!(problem, "commands (hookline ctl, hookline store, hookline dlq) cannot reach this broker: it has no socket");
        });
        let stopping = Arc::new(AtomicBool::new(false));
        let Parts { store, running, reloads, clients, observer, logins, publisher, traces, telemetry, versions } = parts;
        let configs = versions.map(|versions| Arc::new(Configs::new(versions, reloads.clone())));
        let (whole_store, stopped_by) = (Arc::default(), Arc::clone(&stopping));
        let (stop, history) = (watch::Sender::new(false), Arc::<History>::default());
        let mut served = vec![tokio::spawn(history::run(Arc::clone(&history), observer.clone(), stop.subscribe()))];
        let shared = Shared {
            store,
            running,
            reloads,
            clients,
            observer,
            logins,
            publisher,
            traces,
            exports: Arc::new(Exports::open(data_dir)),
            telemetry,
            history,
            configs,
            whole_store,
            stopping: stopped_by,
        };
        let mut file = None;
        if let Ok((listener, socket_file)) = listening {
            file = Some(socket_file);
            let recorded = middleware::from_fn_with_state(shared.clone(), audit::record);
            let router = router(shared.clone()).layer(recorded).layer(Extension(Caller::by_socket()));
            served.push(serve(axum::serve(listener, router).with_graceful_shutdown(stopped(&stop)).into_future()));
        }
        if let Some(Network { listener, tls }) = network {
            if let Some(tls) = &tls {
                served.push(tokio::spawn(network::renew(Arc::clone(tls), stop.subscribe())));
            }
            let guarded = middleware::from_fn_with_state(Arc::clone(&shared.logins), login::guard);
            let recorded = middleware::from_fn_with_state(shared.clone(), audit::record);
            let service = router(shared).layer(recorded).layer(guarded).merge(dashboard::routes());
            let service = service.into_make_service_with_connect_info::<Peer>();
            let server = axum::serve(network::Bounded::new(listener, tls), service).with_graceful_shutdown(stopped(&stop));
            served.push(serve(server.into_future()));
        }
        Api { served, stop, stopping, _file: file }
    }

    /// Ends it. What still works on the store ends with the store.
    pub(crate) async fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        for served in &mut self.served {
            match tokio::time::timeout_at(deadline, &mut *served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the API panicked"),
                Err(_) => {
                    tracing::warn!("a request is still under way; it gets no answer");
                    served.abort();
                }
            }
        }
    }
}

impl Shared {
    /// What runs now.
    fn running(&self) -> Arc<Running> {
        self.running.load_full()
    }

    /// Works on the store beside the runtime's own threads.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Problem> + Send + 'static) -> Answer<T> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map(Json),
            Err(error) => Err(Problem::new(Code::InternalError, error.to_string())),
        }
    }

    /// As [`Shared::run`], for what is put down with what it has changed.
    async fn run_traced<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<(Trace, T), Problem> + Send + 'static) -> Traced<T> {
        let Json((trace, result)) = self.run(work).await?;
        Ok(Noted(trace, Json(result)))
    }

    /// The right to read or write all of the store: refused while somebody else has it.
    fn alone(&self) -> Result<OwnedMutexGuard<()>, Problem> {
        let problem = "a check, compaction, backup, export or import is under way; try again when it has ended";
        Arc::clone(&self.whole_store).try_lock_owned().map_err(|_| Problem::new(Code::Conflict, problem))
    }

    /// As [`Shared::run`], for what keeps the disk busy: refused while another one does.
    async fn run_alone<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Problem> + Send + 'static) -> Answer<T> {
        let alone = self.alone()?;
        self.run(move |store| {
            let result = work(store);
            // Not before, even where nobody waits for the answer any more.
            drop(alone);
            result
        })
        .await
    }
}

/// Serves until it ends.
fn serve(server: impl Future<Output = std::io::Result<()>> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the API has ended");
        }
    })
}

/// Completes when it is to stop.
fn stopped(stop: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut stopped = stop.subscribe();
    async move {
        // An error means that the handle is gone, which is a stop, too.
        drop(stopped.wait_for(|stop| *stop).await);
    }
}

fn router(shared: Shared) -> Router {
    let (routes, document) = openapi::finish(routes::routes());
    let router = routes
        .fallback(|| async { Problem::new(Code::NotFound, "there is no such resource in this version of Hookline") })
        .method_not_allowed_fallback(|| async { Problem::new(Code::MethodNotAllowed, "this resource has no such method") })
        .with_state(shared);
    openapi::serve(router, &document)
}
