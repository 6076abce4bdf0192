//! Who may not connect, and for how long.

use axum::Extension;
use axum::extract::State;
use axum::response::NoContent;
use hookline_core::{BanInfo, BanOrigin, BanOutcome, Banned};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::{Answer, Like, Noted};
use super::audit::{Trace, Traced};
use super::caller::Caller;
use super::extract::{Json, Path, Query};
use super::monitor::{Page, Paging};
use super::{Code, Problem, Shared, shapes};
use crate::backtest::{now_ms, time};

/// Bytes of whom a ban is about, of its reason, and of who has said it.
const WHO_MAX: usize = 65_535;
const REASON_MAX: usize = 1024;
const BY_MAX: usize = 256;
/// How EMQX says "for ever".
const FOR_EVER: &str = "infinity";

/// A ban that is asked for, in the form that EMQX has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBan {
    /// `clientid`, `username`, `peerhost` or `peerhost_net`.
    r#as: String,
    who: String,
    by: Option<String>,
    #[serde(default)]
    reason: String,
    /// A time; now, where nothing is said.
    at: Option<String>,
    /// A time, or `infinity`, which is also what nothing means.
    until: Option<String>,
}

fn describe(ban: &BanInfo) -> Value {
    json!({
        "as": ban.banned.kind(),
        "who": ban.banned.who(),
        "by": ban.by,
        "reason": ban.reason,
        "at": (ban.at_ms > 0).then(|| time(ban.at_ms)),
        "until": ban.until_ms.map_or_else(|| FOR_EVER.to_owned(), time),
        "origin": ban.origin,
    })
}

fn bad(problem: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, problem)
}

fn moment(key: &str, text: &str) -> Result<u64, Problem> {
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    time.ok_or_else(|| bad(format!("{key}: \"{text}\" is no time such as 2026-12-31T00:00:00Z")))
}

impl NewBan {
    fn read(self, caller: &Caller) -> Result<BanInfo, Problem> {
        if self.who.len() > WHO_MAX || self.reason.len() > REASON_MAX || self.by.as_ref().is_some_and(|by| by.len() > BY_MAX) {
            return Err(bad(format!("who has {WHO_MAX} bytes at most, reason {REASON_MAX}, by {BY_MAX}")));
        }
        let banned = Banned::parse(&self.r#as, &self.who).map_err(bad)?;
        let at_ms = self.at.map_or_else(|| Ok(now_ms()), |at| moment("at", &at))?;
        let until_ms = self.until.filter(|until| until != FOR_EVER).map(|until| moment("until", &until)).transpose()?;
        if until_ms.is_some_and(|until| until <= now_ms()) {
            return Err(bad("until: is over already"));
        }
        let by = self.by.unwrap_or_else(|| caller.name.clone());
        Ok(BanInfo { banned, by, reason: self.reason, at_ms, until_ms, origin: BanOrigin::Asked })
    }
}

/// GET /banned
pub(super) async fn get_all(State(shared): State<Shared>, Query(paging): Query<Paging>) -> Answer<Page<shapes::Ban>> {
    Ok(Json(paging.part(shared.observer.bans().await?, |ban| describe(&ban))))
}

/// POST /banned
pub(super) async fn post(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Json(new): Json<NewBan>,
) -> Traced<Like<shapes::Ban>> {
    let ban = new.read(&caller)?;
    match shared.observer.ban(ban.clone()).await? {
        BanOutcome::Banned { .. } => Ok(Noted(Trace::of(None, Some(&describe(&ban))), Json(Like::new(describe(&ban))))),
        BanOutcome::Exists(known) => {
            let problem =
                format!("{} \"{}\" is banned already, by {}; end that ban first", known.banned.kind(), known.banned.who(), known.by);
            Err(Problem::new(Code::Conflict, problem))
        }
        BanOutcome::Full => Err(Problem::new(Code::Conflict, "there are too many bans; end some of them first")),
    }
}

/// DELETE /banned/{as}/{who}
pub(super) async fn delete(
    State(shared): State<Shared>,
    Path((kind, who)): Path<(String, String)>,
) -> Result<Noted<NoContent, Trace>, Problem> {
    let banned = Banned::parse(&kind, &who).map_err(bad)?;
    let Some(ban) = shared.observer.find_ban(&banned) else {
        return Err(Problem::new(Code::NotFound, format!("{kind} \"{who}\" is not banned")));
    };
    if ban.origin == BanOrigin::Configuration {
        return Err(Problem::new(Code::Conflict, "this ban stands in the configuration; it ends there"));
    }
    let before = describe(&ban);
    shared.observer.end_bans(vec![ban]).await?;
    Ok(Noted(Trace::of(Some(&before), None), NoContent))
}

/// How many bans were ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ended {
    deleted: usize,
}

/// DELETE /banned
pub(super) async fn delete_all(State(shared): State<Shared>) -> Answer<Ended> {
    let bans = shared.observer.bans().await?;
    Ok(Json(Ended { deleted: shared.observer.end_bans(bans).await? }))
}
