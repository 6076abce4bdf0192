//! Exports: what an operator has set up, put into a file, and taken from one by another broker. By the paths that EMQX has for them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{self, Operation};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, NoContent, Response};
use bytes::BytesMut;
use hookline_core::store::Store;
use hookline_core::{BanInfo, BanOrigin, BanOutcome, Banned, CarriedIn};
use hookline_schemas::Message;
use http_body_util::channel::Channel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::access::subject;
use super::answer::{Answer, Noted, binary};
use super::audit::{Trace, Traced};
use super::caller::Caller;
use super::configs::Changed;
use super::extract::{Json, Path, Query, Upload};
use super::monitor::{Page, Paging};
use super::{Code, Problem, Shared, actions};
use crate::backtest::{now_ms, time};
use crate::export::{self, Entry, Exported, FILE_BYTES_MAX, FILES_MAX, Manifest, Part, Refused, Unnamed};

/// Bytes that a download reads at a time, and parts that may wait for whoever takes them.
const PART_BYTES: usize = 64 << 10;
const PARTS_WAITING: usize = 4;
/// Retained messages, and bytes of their payloads, that are kept by one commit.
const RETAINED_AT_ONCE: usize = 256;
const RETAINED_BYTES: usize = 4 << 20;
/// Bans that come into force at a time: each waits for the disk.
const BANS_AT_ONCE: usize = 64;
/// What was skipped is told so often; more is counted.
const SKIPPED_MAX: usize = 1000;

/// A file, in the form that EMQX has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FileInfo {
    pub(crate) filename: String,
    pub(crate) node: String,
    pub(crate) created_at: String,
    pub(crate) created_at_sec: u64,
    /// Bytes.
    pub(crate) size: u64,
}

/// What is to be imported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Wanted {
    pub(crate) filename: String,
    /// Only these parts; where nothing is said, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parts: Option<Vec<Part>>,
}

/// What has come of an import.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Imported {
    pub(crate) filename: String,
    /// The node that the export is of, its version, and when it was made.
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) created_at: String,
    /// How much of each part has come in.
    pub(crate) imported: BTreeMap<Part, u64>,
    /// What has not, and why: the first thousand.
    pub(crate) skipped: Vec<Skipped>,
    /// How much has not.
    pub(crate) skipped_count: u64,
    /// What the configuration has come to, where it was imported.
    pub(crate) configuration: Option<Changed>,
}

/// Something that was not imported.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Skipped {
    pub(crate) part: Part,
    pub(crate) what: String,
    pub(crate) reason: String,
}

/// A file on its way to whoever asked for it.
pub(super) struct Download {
    file: File,
    known: Exported,
}

fn bad(problem: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, problem)
}

fn failed(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InternalError, error.to_string())
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no export \"{name}\"; GET /data/files lists those that are there"))
}

fn has_no_name(name: &str) -> Problem {
    bad(format!("filename: \"{}\" must have letters, digits, \".\", \"_\" and \"-\" alone, and end with .tar.gz", name.escape_debug()))
}

fn is_full() -> Problem {
    Problem::new(Code::Conflict, format!("there are {FILES_MAX} exports; take some of them away first"))
}

fn not_named(name: &str, why: Unnamed) -> Problem {
    match why {
        Unnamed::Exists => Problem::new(Code::Conflict, format!("there is an export \"{name}\" already")),
        Unnamed::Full => is_full(),
        Unnamed::File(error) => failed(error),
    }
}

impl Download {
    /// Reads the file as fast as it is taken.
    fn body(self) -> Body {
        let (mut sender, body) = Channel::<bytes::Bytes, io::Error>::new(PARTS_WAITING);
        tokio::spawn(async move {
            let mut file = tokio::fs::File::from_std(self.file);
            loop {
                let mut part = BytesMut::with_capacity(PART_BYTES);
                match file.read_buf(&mut part).await {
                    Ok(0) => break,
                    Ok(_) => {
                        if sender.send_data(part.freeze()).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => return sender.abort(error),
                }
            }
        });
        Body::new(body)
    }
}

impl IntoResponse for Download {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", self.known.name)),
            (header::CONTENT_LENGTH, self.known.bytes.to_string()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
        ];
        (headers, self.body()).into_response()
    }
}

impl OperationOutput for Download {
    type Inner = String;

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<openapi::StatusCode>, openapi::Response)> {
        binary("application/octet-stream")
    }
}

impl Shared {
    fn describe(&self, Exported { name, bytes, created }: Exported) -> FileInfo {
        let created_ms = created.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        FileInfo {
            filename: name,
            node: self.observer.node().to_owned(),
            created_at: time(created_ms),
            created_at_sec: created_ms / 1000,
            size: bytes,
        }
    }
}

/// GET /data/files
pub(super) async fn get_all(State(shared): State<Shared>, Query(paging): Query<Paging>) -> Answer<Page<FileInfo>> {
    let exports = Arc::clone(&shared.exports);
    let Json(all) = shared.run(move |_| exports.all().map_err(failed)).await?;
    Ok(Json(paging.part(all, |one| serde_json::to_value(shared.describe(one)).unwrap_or_default())))
}

/// GET /data/files/{filename}
pub(super) async fn get(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Download, Problem> {
    let exports = Arc::clone(&shared.exports);
    let wanted = name.clone();
    let Json(found) = shared.run(move |_| exports.file(&wanted).map_err(failed)).await?;
    let (file, known) = found.ok_or_else(|| unknown(&name))?;
    // It is no change, and yet: all secrets leave the broker.
    tracing::info!(target: "audit", user = caller.name, file = known.name, "an export is downloaded");
    Ok(Download { file, known })
}

/// DELETE /data/files/{filename}
pub(super) async fn delete(State(shared): State<Shared>, Path(name): Path<String>) -> Result<NoContent, Problem> {
    let exports = Arc::clone(&shared.exports);
    let wanted = name.clone();
    let Json(removed) = shared.run(move |_| exports.remove(&wanted).map_err(failed)).await?;
    if removed { Ok(NoContent) } else { Err(unknown(&name)) }
}

/// POST /data/files: one file, in the field `filename`
pub(super) async fn post(State(shared): State<Shared>, Upload(mut form): Upload) -> Result<Noted<NoContent, Trace>, Problem> {
    let problem = |error: axum::extract::multipart::MultipartError| match error.status().as_u16() {
        413 => Problem::new(Code::TooLarge, format!("an export has {FILE_BYTES_MAX} bytes at the most")),
        _ => bad(error.body_text()),
    };
    while let Some(mut field) = form.next_field().await.map_err(problem)? {
        if field.name() != Some("filename") {
            continue;
        }
        let Some(name) = field.file_name().map(str::to_owned) else { return Err(bad("filename: is no file")) };
        if !export::is_name(&name) {
            return Err(has_no_name(&name));
        }
        if !shared.exports.has_room().map_err(failed)? {
            return Err(is_full());
        }
        let half = shared.exports.half().map_err(failed)?;
        let mut file = tokio::fs::File::from_std(half.file().map_err(failed)?);
        while let Some(part) = field.chunk().await.map_err(problem)? {
            file.write_all(&part).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        drop(file);
        let Json(known) = shared.run(move |_| half.name(&name).map_err(|why| not_named(&name, why))).await?;
        tracing::info!(file = known.name, bytes = known.bytes, "an export was brought here");
        return Ok(Noted(Trace::of(None, Some(&shared.describe(known))), NoContent));
    }
    Err(bad("there is no field \"filename\" with a file in the form"))
}

/// POST /data/export
pub(super) async fn post_export(State(shared): State<Shared>) -> Traced<FileInfo> {
    let alone = shared.alone()?;
    let configuration = shared.configuration().await?;
    let bans = shared.observer.bans().await?;
    let (work, name) = (shared.clone(), export::new_name());
    let Json(known) = shared
        .run(move |store| {
            let _alone = alone;
            if !work.exports.has_room().map_err(failed)? {
                return Err(is_full());
            }
            let half = work.exports.half().map_err(failed)?;
            write(&work, store, half.file().map_err(failed)?, configuration.as_deref(), bans)?;
            half.name(&name).map_err(|why| not_named(&name, why))
        })
        .await?;
    tracing::info!(file = known.name, bytes = known.bytes, "an export was made");
    let known = shared.describe(known);
    Ok(Noted(Trace::of(None, Some(&known)), Json(known)))
}

fn write(shared: &Shared, store: &Store, file: File, configuration: Option<&str>, bans: Vec<BanInfo>) -> Result<(), Problem> {
    let mut writer = export::Writer::new(file, &Manifest::new(shared.observer.node())).map_err(failed)?;
    if let Some(text) = configuration {
        writer.configuration(text).map_err(failed)?;
    }
    for person in shared.logins.carry_out().map_err(failed)? {
        writer.entry(Part::Admins, &person).map_err(failed)?;
    }
    for (user_id, user) in shared.clients.users.all().map_err(failed)? {
        let user = export::User { user_id, password_hash: user.password_hash, is_superuser: user.is_superuser };
        writer.entry(Part::Users, &user).map_err(failed)?;
    }
    for (subject, rules) in shared.clients.users.all_permissions().map_err(failed)? {
        let (kind, name) = super::access::described(subject);
        writer.entry(Part::Permissions, &export::Permission { kind: kind.to_owned(), name, rules }).map_err(failed)?;
    }
    // The others stand in the configuration, or end with the broker.
    for ban in bans.into_iter().filter(|ban| ban.origin == BanOrigin::Asked) {
        let BanInfo { banned, by, reason, at_ms, until_ms, .. } = ban;
        let ban = export::Ban { r#as: banned.kind().to_owned(), who: banned.who(), by, reason, at_ms, until_ms };
        writer.entry(Part::Bans, &ban).map_err(failed)?;
    }
    for action in actions::paused(store).map_err(failed)? {
        writer.entry(Part::Paused, &export::Paused { action }).map_err(failed)?;
    }
    let mut from: Option<Box<str>> = None;
    loop {
        let (messages, next) = shared.observer.carry_retained_out(from.as_deref())?;
        for message in &messages {
            writer.entry(Part::Retained, &export::Retained::from(message)).map_err(failed)?;
        }
        from = next;
        if from.is_none() {
            break;
        }
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(Problem::new(Code::Busy, "the broker stops"));
        }
    }
    writer.finish().map_err(failed)
}

/// POST /data/import
pub(super) async fn post_import(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(wanted): Json<Wanted>,
) -> Traced<Imported> {
    let alone = shared.alone()?;
    // It is finished also where nobody waits for the answer any more.
    let importing = tokio::spawn(async move {
        let _alone = alone;
        import(shared, caller, wanted).await
    });
    importing.await.unwrap_or_else(|error| Err(failed(error)))
}

/// What is in an export, as it was read for the first time, when nothing was done yet.
struct Checked {
    file: File,
    manifest: Manifest,
    configuration: Option<String>,
}

fn check(file: File, wants: &dyn Fn(Part) -> bool) -> Result<Checked, Refused> {
    let mut configuration = None;
    let manifest = export::read(&file, |entry| {
        if let Entry::Configuration(text) = entry
            && wants(Part::Configuration)
        {
            configuration = Some(text);
        }
        Ok(())
    })?;
    Ok(Checked { file, manifest, configuration })
}

async fn import(shared: Shared, caller: Caller, Wanted { filename, parts }: Wanted) -> Traced<Imported> {
    if !export::is_name(&filename) {
        return Err(has_no_name(&filename));
    }
    let wants = move |part: Part| parts.as_ref().is_none_or(|parts| parts.contains(&part));
    let (exports, name, wants_of_it) = (Arc::clone(&shared.exports), filename.clone(), wants.clone());
    let Json(Checked { file, manifest, configuration }) = shared
        .run(move |_| {
            let (file, _) = exports.file(&name).map_err(failed)?.ok_or_else(|| unknown(&name))?;
            check(file, &wants_of_it).map_err(|why| bad(format!("nothing was changed: {name}: {why}")))
        })
        .await?;
    let changed = match configuration {
        Some(text) => Some(shared.take_configuration(caller, text).await?),
        None => None,
    };
    let (trace, changed) = changed.map_or_else(Default::default, |(trace, changed)| (trace, Some(changed)));
    let (handle, work) = (Handle::current(), shared.clone());
    let Json(import) = shared
        .run(move |store| {
            let mut import = Import::new(&work, handle);
            if changed.is_some() {
                import.count(Part::Configuration);
            }
            let read = export::read(&file, |entry| if wants(entry.part()) { import.take(store, entry) } else { Ok(()) });
            read.and_then(|_| import.finish(store)).map_err(|why| failed(format!("only a part was imported: {why}")))?;
            let Import { imported, skipped, skipped_count, .. } = import;
            let Manifest { node, version, created_at, .. } = manifest;
            Ok(Imported { filename, node, version, created_at, imported, skipped, skipped_count, configuration: changed })
        })
        .await?;
    tracing::info!(file = import.filename, of = import.node, skipped = import.skipped_count, imported = ?import.imported, "an export was imported");
    let told = json!({ "filename": import.filename, "imported": import.imported, "skipped_count": import.skipped_count });
    Ok(Noted(trace.and(&told), Json(import)))
}

/// An import under way, beside the runtime's own threads. Everything in it has been looked at before.
struct Import<'a> {
    shared: &'a Shared,
    handle: Handle,
    imported: BTreeMap<Part, u64>,
    skipped: Vec<Skipped>,
    skipped_count: u64,
    retained: Vec<Message>,
    retained_bytes: usize,
    bans: Vec<BanInfo>,
}

impl Import<'_> {
    fn new(shared: &Shared, handle: Handle) -> Import<'_> {
        Import {
            shared,
            handle,
            imported: BTreeMap::new(),
            skipped: Vec::new(),
            skipped_count: 0,
            retained: Vec::new(),
            retained_bytes: 0,
            bans: Vec::new(),
        }
    }

    fn count(&mut self, part: Part) {
        *self.imported.entry(part).or_default() += 1;
    }

    fn skip(&mut self, part: Part, what: String, reason: String) {
        self.skipped_count += 1;
        if self.skipped.len() < SKIPPED_MAX {
            self.skipped.push(Skipped { part, what, reason });
        }
    }

    fn take(&mut self, store: &Store, entry: Entry) -> Result<(), Refused> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(Refused("the broker stops".into()));
        }
        let part = entry.part();
        let failed = |error: &dyn std::fmt::Display| Refused(error.to_string());
        match entry {
            // It is in force by now.
            Entry::Configuration(_) => return Ok(()),
            Entry::Person(person) => self.shared.logins.carry_in(&person).map_err(|error| failed(&error))?,
            Entry::User(export::User { user_id, password_hash, is_superuser }) => {
                let user = hookline_access::User { password_hash, is_superuser };
                self.shared.clients.users.set(&user_id, Some(&user)).map_err(|error| failed(&error))?;
            }
            Entry::Permission(export::Permission { kind, name, rules }) => {
                let subject = subject(&kind, name).map_err(|error| failed(&error))?;
                self.shared.clients.users.set_permissions(&subject, Some(&rules)).map_err(|error| failed(&error))?;
            }
            Entry::Paused(export::Paused { action }) => {
                let running = self.shared.running();
                if running.action(&action).is_err() {
                    self.skip(part, action, "there is no such action".into());
                    return Ok(());
                }
                actions::keep_paused(&running, store, &action, true).map_err(|error| failed(&error))?;
            }
            Entry::Ban(ban) => return self.take_ban(ban),
            Entry::Retained(message) => {
                self.retained_bytes += message.payload.len();
                self.retained.push(*message);
                let is_enough = self.retained.len() >= RETAINED_AT_ONCE || self.retained_bytes >= RETAINED_BYTES;
                return if is_enough { self.keep_retained() } else { Ok(()) };
            }
        }
        self.count(part);
        Ok(())
    }

    fn take_ban(&mut self, export::Ban { r#as: kind, who, by, reason, at_ms, until_ms }: export::Ban) -> Result<(), Refused> {
        if until_ms.is_some_and(|until| until <= now_ms()) {
            self.skip(Part::Bans, format!("{kind} {who}"), "it is over".into());
            return Ok(());
        }
        let banned = Banned::parse(&kind, &who).map_err(Refused)?;
        self.bans.push(BanInfo { banned, by, reason, at_ms, until_ms, origin: BanOrigin::Asked });
        if self.bans.len() >= BANS_AT_ONCE { self.ban() } else { Ok(()) }
    }

    fn ban(&mut self) -> Result<(), Refused> {
        let mut banning = JoinSet::new();
        for ban in self.bans.drain(..) {
            let observer = self.shared.observer.clone();
            banning.spawn_on(async move { (ban.banned.clone(), observer.ban(ban).await) }, &self.handle);
        }
        for (banned, outcome) in self.handle.block_on(banning.join_all()) {
            let what = format!("{} {}", banned.kind(), banned.who());
            match outcome.map_err(|error| Refused(error.to_string()))? {
                BanOutcome::Banned { .. } => self.count(Part::Bans),
                BanOutcome::Exists(known) => self.skip(Part::Bans, what, format!("is banned already, by {}", known.by)),
                BanOutcome::Full => self.skip(Part::Bans, what, "there are too many bans".into()),
            }
        }
        Ok(())
    }

    fn keep_retained(&mut self) -> Result<(), Refused> {
        let messages = std::mem::take(&mut self.retained);
        self.retained_bytes = 0;
        let outcomes = self.shared.observer.carry_retained_in(&messages).map_err(|error| Refused(error.to_string()))?;
        for (message, outcome) in messages.iter().zip(outcomes) {
            let why = match outcome {
                CarriedIn::Kept => {
                    self.count(Part::Retained);
                    continue;
                }
                CarriedIn::Expired => "its time is over",
                CarriedIn::NoRoom => "there is no room: mqtt.retained_max, retained_bytes_max or retained_payload_bytes_max",
            };
            self.skip(Part::Retained, message.topic.to_string(), why.into());
        }
        Ok(())
    }

    fn finish(&mut self, store: &Store) -> Result<(), Refused> {
        self.ban()?;
        self.keep_retained()?;
        // What was said to be imported is so after a power cut, too.
        store.sync();
        if self.imported.contains_key(&Part::Permissions) {
            self.shared.clients.have_rights_renewed();
        }
        Ok(())
    }
}
