//! The REST API, under /api/v5. For now it listens on the socket in the data folder only, and has what the commands need. Answers are
//! JSON; what was refused is `{"code": …, "message": …}`.

pub(crate) mod access;
pub(crate) mod actions;
mod answer;
pub(crate) mod dead_letters;
mod reload;
pub(crate) mod rule_metrics;
mod rules;
mod running;
mod socket;
pub(crate) mod sources;
mod store;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use hookline_core::store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::live::Reloads;
pub(crate) use access::Clients;
pub(crate) use actions::is_paused;
use answer::Answer;
pub(crate) use answer::{Code, Problem};
pub(crate) use running::Running;

/// How long the end waits for requests that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The API, serving.
#[derive(Debug)]
pub(crate) struct Api {
    served: JoinHandle<()>,
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
    _file: socket::SocketFile,
}

/// What handlers work with.
#[derive(Debug, Clone)]
struct Shared {
    store: Arc<Store>,
    /// The rules and actions of the configuration.
    running: Arc<ArcSwap<Running>>,
    reloads: Reloads,
    clients: Arc<Clients>,
    /// Held by what reads or writes the whole store: one at a time.
    whole_store: Arc<tokio::sync::Mutex<()>>,
    /// The broker stops: what takes long is to end.
    stopping: Arc<AtomicBool>,
}

impl Api {
    /// Starts to listen in the data folder, whose store this process has open. Without the socket the broker serves all the same.
    pub(crate) fn start(
        data_dir: &Path,
        store: Arc<Store>,
        running: Arc<ArcSwap<Running>>,
        clients: Clients,
        reloads: Reloads,
    ) -> Option<Api> {
        let listening = socket::listen(data_dir).inspect_err(|problem| {
            tracing::warn!(problem, "commands (hookline ctl, hookline store, hookline dlq) cannot reach this broker: it has no socket");
        });
        let (listener, file) = listening.ok()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let shared =
            Shared { store, running, reloads, clients: Arc::new(clients), whole_store: Arc::default(), stopping: Arc::clone(&stopping) };
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let server = axum::serve(listener, router(shared)).with_graceful_shutdown(async move {
            // An error means that the handle is gone, which is a stop, too.
            drop(stopped.wait_for(|stop| *stop).await);
        });
        let served = tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the API has ended");
            }
        });
        Some(Api { served, stop, stopping, _file: file })
    }

    /// Ends it. What still works on the store ends with the store.
    pub(crate) async fn stop(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        match tokio::time::timeout(STOP_TIMEOUT, &mut self.served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the API panicked"),
            Err(_) => {
                tracing::warn!("a command is still under way; it gets no answer");
                self.served.abort();
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

    /// As [`Shared::run`], for what keeps the disk busy: refused while another one does.
    async fn run_alone<T: Send + 'static>(&self, work: impl FnOnce(&Store) -> Result<T, Problem> + Send + 'static) -> Answer<T> {
        let Ok(alone) = Arc::clone(&self.whole_store).try_lock_owned() else {
            let problem = "a check, compaction or backup is under way; try again when it has ended";
            return Err(Problem::new(Code::Conflict, problem));
        };
        self.run(move |store| {
            let result = work(store);
            // Not before, even where nobody waits for the answer any more.
            drop(alone);
            result
        })
        .await
    }
}

fn router(shared: Shared) -> Router {
    let letters = "/actions/{action}/dead_letters";
    let routes = Router::new()
        .route("/store", get(store::stats))
        .route("/store/queues", get(store::queues))
        .route("/store/check", post(store::check))
        .route("/store/compact", post(store::compact))
        .route("/store/backup", post(store::backup))
        .route("/rule_test", post(rules::post_test))
        .route("/rule_backtest", post(rules::post_backtest))
        .route("/rule_events", get(rules::get_events))
        .route("/rules", get(rule_metrics::get_all))
        .route("/rules/{id}", get(rule_metrics::get_one))
        .route("/rules/{id}/metrics", get(rule_metrics::get_metrics))
        .route("/actions", get(actions::get_all))
        .route("/actions/{action}", get(actions::get_one))
        .route("/actions/{action}/pause", post(actions::post_pause))
        .route("/actions/{action}/resume", post(actions::post_resume))
        .route("/configs/reload", post(reload::post))
        .route("/sources", get(sources::get_all))
        .route("/access", get(access::get_stats))
        .route(&format!("{}/{{kind}}", access::RULES), get(access::get_rules).put(access::put_rules).delete(access::delete_rules))
        .route(&format!("{}/{{kind}}/{{name}}", access::RULES), get(access::get_rules).put(access::put_rules).delete(access::delete_rules))
        .route("/authorization/cache", delete(access::delete_cache))
        .route(access::USERS, get(access::get_users).post(access::post_user))
        .route(&format!("{}/{{user}}", access::USERS), delete(access::delete_user))
        .route(letters, get(dead_letters::get_all).delete(dead_letters::delete_all))
        .route(&format!("{letters}/replay"), post(dead_letters::post_replay_all))
        .route(
            &format!("{letters}/{{sequence}}"),
            get(dead_letters::get_one).patch(dead_letters::patch_one).delete(dead_letters::delete_one),
        )
        .route(&format!("{letters}/{{sequence}}/replay"), post(dead_letters::post_replay));
    Router::new()
        .nest("/api/v5", routes)
        .fallback(|| async { Problem::new(Code::NotFound, "there is no such resource in this version of Hookline") })
        .with_state(shared)
}
