//! The configuration: shown, changed as a whole or item by item, and taken back. Every change goes by its file, is checked as a whole before, and is
//! then put in force as a reload is. One at a time.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use similar::TextDiff;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::answer::{Answer, Created, JsonOrText, Noted};
use super::audit::{Trace, Traced};
use super::caller::Caller;
use super::extract::{IfMatch, Json, Path, Query, Toml};
use super::reload::reload;
use super::{Code, Problem, Shared};
use crate::config::edit::{Edit, EditError, edit, with_section_of};
use crate::config::redact::{Redaction, without_secret_comments};
use crate::config::{Version, Versions, summary};
use crate::live::{Changes, Extent, Reloads};

/// Bytes of an item's name.
const NAME_MAX: usize = 256;

/// The file of the configuration, for one at a time.
#[derive(Debug)]
pub(super) struct Configs {
    versions: Arc<Mutex<Versions>>,
    reloads: Reloads,
}

/// A version with its text.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Text {
    #[serde(flatten)]
    pub(crate) version: Version,
    pub(crate) content: String,
}

/// What a change has come to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Changed {
    #[serde(flatten)]
    pub(crate) version: Version,
    pub(crate) applied: Changes,
}

/// The difference of two versions.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Difference {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) diff: String,
}

/// The lines by which one text differs from another.
pub(super) fn difference(before: (&str, &str), after: (&str, &str)) -> String {
    TextDiff::from_lines(before.1, after.1).unified_diff().context_radius(3).header(before.0, after.0).to_string()
}

/// The same, without secrets: fit to be kept.
fn safe_difference(before: &str, after: &str) -> String {
    let mut redaction = Redaction::default();
    match (redaction.redact(before), redaction.redact(after)) {
        (Some(before), Some(after)) => without_secret_comments(&difference(("before", &before), ("after", &after))),
        _ => "what was there before is no TOML".into(),
    }
}

fn traced<T>((trace, result): (Trace, T)) -> Noted<Json<T>, Trace> {
    Noted(trace, Json(result))
}

fn failed(error: &std::io::Error) -> Problem {
    Problem::new(Code::Conflict, format!("the file of the configuration cannot be read or written: {error}"))
}

fn not_kept(version: u64) -> Problem {
    Problem::new(Code::NotFound, format!("version {version} is not kept; GET /configs/history lists those that are"))
}

impl Configs {
    pub(super) fn new(versions: Versions, reloads: Reloads) -> Configs {
        Configs { versions: Arc::new(Mutex::new(versions)), reloads }
    }

    /// Works on the files, beside the runtime's own threads and with nobody else.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Versions) -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
        let versions = Arc::clone(&self.versions).lock_owned().await;
        run(versions, work).await.1
    }

    /// Changes the text: `make` has another one from the one that is there.
    async fn change(
        self: Arc<Self>,
        caller: Caller,
        expected: Option<u64>,
        make: impl FnOnce(&str, &Versions) -> Result<String, Problem> + Send + 'static,
    ) -> Result<(Trace, Changed), Problem> {
        // It is finished also where nobody waits for the answer any more.
        let changing = tokio::spawn(async move { self.change_alone(caller, expected, make).await });
        changing.await.unwrap_or_else(|error| Err(Problem::new(Code::InternalError, error.to_string())))
    }

    async fn change_alone(
        &self,
        caller: Caller,
        expected: Option<u64>,
        make: impl FnOnce(&str, &Versions) -> Result<String, Problem> + Send + 'static,
    ) -> Result<(Trace, Changed), Problem> {
        let versions = Arc::clone(&self.versions).lock_owned().await;
        let (versions, written) = run(versions, move |versions| {
            let (current, before) = versions.current().map_err(|error| failed(&error))?;
            if let Some(expected) = expected.filter(|expected| *expected != current.version) {
                let Version { version, changed_by, changed_at, .. } = current;
                let problem =
                    format!("the configuration is not version {expected} any more, but {version}, changed by {changed_by} at {changed_at}");
                return Err(Problem::new(Code::Conflict, problem));
            }
            let after = make(&before, versions)?;
            versions.check(&after).map_err(|errors| Problem::refused(errors.errors))?;
            if after == before {
                return Ok((current, before, Trace::default(), false));
            }
            let summary = summary(&before, &after);
            let (from, diff) = (current.version, safe_difference(&before, &after));
            let version = versions.write(&after, &caller.name, summary).map_err(|error| failed(&error))?;
            let trace = Trace::of(Some(&json!({ "version": from })), Some(&json!({ "version": version.version, "diff": diff })));
            Ok((version, before, trace, true))
        })
        .await;
        let (version, before, trace, is_new) = written?;
        match reload(&self.reloads, Extent::AsFarAsPossible).await {
            Ok(applied) => Ok((trace, Changed { version, applied })),
            Err(problem) if is_new => {
                let number = version.version;
                let (_, taken_back) =
                    run(versions, move |versions| versions.take_back(number, &before).map_err(|error| failed(&error))).await;
                taken_back?;
                // What it had begun is undone as well.
                if let Err(error) = reload(&self.reloads, Extent::AsFarAsPossible).await {
                    tracing::error!(%error, "the configuration that was in force before is in its file, and could not be put in force again");
                }
                Err(problem)
            }
            Err(problem) => Err(problem),
        }
    }
}

async fn run<T: Send + 'static>(
    versions: OwnedMutexGuard<Versions>,
    work: impl FnOnce(&Versions) -> Result<T, Problem> + Send + 'static,
) -> (OwnedMutexGuard<Versions>, Result<T, Problem>) {
    let working = tokio::task::spawn_blocking(move || {
        let result = work(&versions);
        (versions, result)
    });
    // Work on files does not panic, and is not cancelled.
    working.await.expect("the work on the files of the configuration ends")
}

impl Shared {
    /// The text of the configuration; `None`: the broker was started without a file.
    pub(super) async fn configuration(&self) -> Result<Option<String>, Problem> {
        match &self.configs {
            Some(configs) => configs.run(|versions| versions.current().map(|(_, text)| Some(text)).map_err(|error| failed(&error))).await,
            None => Ok(None),
        }
    }

    /// Takes the configuration of another broker. The node stays what it is: its name and its folder are those of this one.
    pub(super) async fn take_configuration(&self, caller: Caller, text: String) -> Result<(Trace, Changed), Problem> {
        let make = move |before: &str, _: &Versions| {
            with_section_of(&text, before, "node").map_err(|error| Problem::refused(vec![format!("the configuration: {error}")]))
        };
        self.configs()?.change(caller, None, make).await
    }

    /// The file of the configuration.
    fn configs(&self) -> Result<Arc<Configs>, Problem> {
        let problem = "this broker was started without a file of its configuration; write hookline.toml, or name one with --config, and start it anew";
        self.configs.clone().ok_or_else(|| Problem::new(Code::Conflict, problem))
    }
}

fn wants(headers: &HeaderMap, kind: &str) -> bool {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains(kind))
}

/// GET /configs
pub(super) async fn get(State(shared): State<Shared>, headers: HeaderMap) -> Result<JsonOrText<Text>, Problem> {
    let (version, content) = shared.configs()?.run(|versions| versions.current().map_err(|error| failed(&error))).await?;
    let number = version.version;
    let answer = if wants(&headers, "text/plain") { JsonOrText::text(content) } else { JsonOrText::json(Text { version, content }) };
    Ok(answer.tagged(number))
}

/// PUT /configs
pub(super) async fn put(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    IfMatch(expected): IfMatch,
    Toml(text): Toml,
) -> Traced<Changed> {
    // Such a one is valid: a request without its body would take everything away.
    if text.trim().is_empty() {
        return Err(Problem::new(Code::BadRequest, "the body is empty; it is to be the whole configuration, as TOML"));
    }
    shared.configs()?.change(caller, expected, move |_, _| Ok(text)).await.map(traced)
}

/// GET /configs/history
pub(super) async fn get_history(State(shared): State<Shared>) -> Answer<Vec<Version>> {
    let configs = shared.configs()?;
    let all = configs.run(|versions| versions.current().and_then(|_| versions.all()).map_err(|error| failed(&error))).await?;
    Ok(Json(all))
}

/// GET /configs/history/{version}
pub(super) async fn get_version(State(shared): State<Shared>, Path(number): Path<u64>) -> Answer<Text> {
    let read = move |versions: &Versions| {
        let content = versions.text(number).map_err(|error| failed(&error))?.ok_or_else(|| not_kept(number))?;
        Ok(Text { version: versions.version(number).map_err(|_| not_kept(number))?, content })
    };
    shared.configs()?.run(read).await.map(Json)
}

/// Which versions are compared.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct DifferenceQuery {
    /// The one before `to`, where nothing is said.
    from: Option<u64>,
    /// The one in force, where nothing is said.
    to: Option<u64>,
}

/// GET /configs/diff
pub(super) async fn get_diff(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Query(DifferenceQuery { from, to }): Query<DifferenceQuery>,
) -> Result<JsonOrText<Difference>, Problem> {
    let compare = move |versions: &Versions| {
        let (current, _) = versions.current().map_err(|error| failed(&error))?;
        let to = to.unwrap_or(current.version);
        let before_to = || {
            let all = versions.all().map_err(|error| failed(&error))?;
            Ok::<u64, Problem>(all.into_iter().map(|version| version.version).find(|version| *version < to).unwrap_or(to))
        };
        let from = from.map_or_else(before_to, Ok)?;
        let text = |number| versions.text(number).map_err(|error| failed(&error))?.ok_or_else(|| not_kept(number));
        let (before, after) = (text(from)?, text(to)?);
        let diff = difference((&format!("version {from}"), &before), (&format!("version {to}"), &after));
        Ok(Difference { from, to, diff })
    };
    let difference = shared.configs()?.run(compare).await?;
    Ok(if wants(&headers, "application/json") { JsonOrText::json(difference) } else { JsonOrText::text(difference.diff) })
}

/// Which version is to be the configuration again.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Rollback {
    version: u64,
}

/// POST /configs/rollback
pub(super) async fn post_rollback(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    IfMatch(expected): IfMatch,
    Json(Rollback { version }): Json<Rollback>,
) -> Traced<Changed> {
    let make = move |_: &str, versions: &Versions| versions.text(version).map_err(|error| failed(&error))?.ok_or_else(|| not_kept(version));
    shared.configs()?.change(caller, expected, make).await.map(traced)
}

/// The answer for an item that was added.
type Added = Result<Noted<Created<Changed>, Trace>, Problem>;

/// A section of the configuration whose items have names.
#[derive(Debug, Clone, Copy)]
struct Section {
    key: &'static str,
    /// What an item is called.
    item: &'static str,
}

const RULES: Section = Section { key: "rules", item: "rule" };
const ACTIONS: Section = Section { key: "actions", item: "action" };
const SOURCES: Section = Section { key: "sources", item: "source" };
const CONNECTORS: Section = Section { key: "connectors", item: "connector" };

impl Section {
    /// An item that is added; its name stands in it.
    async fn add(self, shared: Shared, caller: Caller, expected: Option<u64>, mut item: Map<String, Value>) -> Added {
        let name = item.shift_remove("name").or_else(|| if self.key == RULES.key { item.shift_remove("id") } else { None });
        let Some(Value::String(name)) = name else {
            return Err(Problem::new(Code::BadRequest, format!("name: the name of the {} is missing", self.item)));
        };
        if name.is_empty() || name.len() > NAME_MAX || name.contains(char::is_control) {
            return Err(Problem::new(Code::BadRequest, format!("name: must have 1 to {NAME_MAX} bytes, and no control characters")));
        }
        let (trace, changed) = self.edit(shared, caller, expected, name, Edit::Add(item)).await?;
        Ok(Noted(trace, Created(changed)))
    }

    async fn replace(
        self,
        shared: Shared,
        caller: Caller,
        expected: Option<u64>,
        name: String,
        mut item: Map<String, Value>,
    ) -> Traced<Changed> {
        let said = item.shift_remove("name").or_else(|| if self.key == RULES.key { item.shift_remove("id") } else { None });
        if said.is_some_and(|said| said != *name) {
            return Err(Problem::new(
                Code::BadRequest,
                format!("name: a {} keeps its name; add another one, and remove this one", self.item),
            ));
        }
        self.edit(shared, caller, expected, name, Edit::Change(item)).await.map(traced)
    }

    async fn remove(self, shared: Shared, caller: Caller, expected: Option<u64>, name: String) -> Traced<Changed> {
        self.edit(shared, caller, expected, name, Edit::Remove).await.map(traced)
    }

    async fn edit(
        self,
        shared: Shared,
        caller: Caller,
        expected: Option<u64>,
        name: String,
        what: Edit,
    ) -> Result<(Trace, Changed), Problem> {
        let make = move |before: &str, _: &Versions| {
            edit(before, self.key, &name, &what).map_err(|error| match error {
                EditError::Exists => Problem::new(Code::Conflict, format!("there is a {} \"{name}\" already", self.item)),
                EditError::Missing => {
                    Problem::new(Code::NotFound, format!("the file of the configuration has no {} \"{name}\"", self.item))
                }
                EditError::Text(problem) => Problem::new(Code::Conflict, format!("the file of the configuration: {problem}")),
                EditError::Item(problem) => Problem::new(Code::BadRequest, problem),
            })
        };
        shared.configs()?.change(caller, expected, make).await
    }
}

/// The three handlers of a section.
macro_rules! items {
    ($section:ident: $post:ident, $put:ident, $delete:ident) => {
        pub(super) async fn $post(
            State(shared): State<Shared>,
            Extension(caller): Extension<Caller>,
            IfMatch(expected): IfMatch,
            Json(item): Json<Map<String, Value>>,
        ) -> Added {
            $section.add(shared, caller, expected, item).await
        }

        pub(super) async fn $put(
            State(shared): State<Shared>,
            Extension(caller): Extension<Caller>,
            Path(name): Path<String>,
            IfMatch(expected): IfMatch,
            Json(item): Json<Map<String, Value>>,
        ) -> Traced<Changed> {
            $section.replace(shared, caller, expected, name, item).await
        }

        pub(super) async fn $delete(
            State(shared): State<Shared>,
            Extension(caller): Extension<Caller>,
            Path(name): Path<String>,
            IfMatch(expected): IfMatch,
        ) -> Traced<Changed> {
            $section.remove(shared, caller, expected, name).await
        }
    };
}

items!(RULES: post_rule, put_rule, delete_rule);
items!(ACTIONS: post_action, put_action, delete_action);
items!(SOURCES: post_source, put_source, delete_source);
items!(CONNECTORS: post_connector, put_connector, delete_connector);
