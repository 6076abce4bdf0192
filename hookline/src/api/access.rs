//! Who may: users of the store, what the backends were asked, permissions asked for anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use hookline_access::{Access, BackendStats, BuiltIn, Subject, User};
use hookline_schemas::ports::QueueError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::audit::{Trace, Traced};
use super::extract::{Json, Path};
use super::{Code, Problem, Shared};

/// The path of the store's users.
pub(crate) const USERS: &str = "/authentication/password_based:built_in_database/users";

/// What decides about clients, as far as the API goes.
pub(crate) struct Clients {
    pub(crate) access: Arc<Access>,
    pub(crate) users: BuiltIn,
    pub(crate) renew_rights: Arc<dyn Fn() + Send + Sync>,
}

impl Clients {
    /// Permissions have changed, or may have.
    pub(super) fn have_rights_renewed(&self) {
        self.access.note_change();
        (self.renew_rights)();
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// A user, without what proves it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UserInfo {
    pub(crate) user_id: String,
    pub(crate) is_superuser: bool,
}

/// A user that is added, or gets another password.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NewUser {
    pub(crate) user_id: String,
    pub(crate) password: String,
    #[serde(default)]
    pub(crate) is_superuser: bool,
}

/// Nothing to tell.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Done {}

/// The path of the store's permissions; whom they are for follows.
pub(crate) const RULES: &str = "/authorization/sources/built_in_database/rules";

fn store_failed(error: QueueError) -> Problem {
    Problem::new(Code::InternalError, error.to_string())
}

/// GET /access
pub(super) async fn get_stats(State(shared): State<Shared>) -> Answer<BTreeMap<String, BackendStats>> {
    Ok(Json(shared.clients.access.stats().into_iter().collect()))
}

/// DELETE /authorization/cache
pub(super) async fn delete_cache(State(shared): State<Shared>) -> Answer<Done> {
    shared.clients.access.forget();
    shared.clients.have_rights_renewed();
    tracing::info!("permissions of all clients are asked for anew");
    Ok(Json(Done {}))
}

/// GET /authentication/password_based:built_in_database/users
pub(super) async fn get_users(State(shared): State<Shared>) -> Answer<Vec<UserInfo>> {
    let clients = Arc::clone(&shared.clients);
    shared
        .run(move |_| {
            let users = clients.users.all().map_err(store_failed)?;
            Ok(users.into_iter().map(|(user_id, user)| UserInfo { user_id, is_superuser: user.is_superuser }).collect())
        })
        .await
}

/// POST /authentication/password_based:built_in_database/users
pub(super) async fn post_user(State(shared): State<Shared>, Json(new): Json<NewUser>) -> Traced<UserInfo> {
    let clients = Arc::clone(&shared.clients);
    shared
        .run_traced(move |_| {
            let NewUser { user_id, password, is_superuser } = new;
            if user_id.is_empty() || password.is_empty() {
                return Err(Problem::new(Code::BadRequest, "user_id and password must not be empty"));
            }
            let password_hash =
                hookline_access::hash(password.as_bytes()).map_err(|error| Problem::new(Code::BadRequest, error.to_string()))?;
            let before = known(&clients, &user_id)?;
            clients.users.set(&user_id, Some(&User { password_hash, is_superuser })).map_err(store_failed)?;
            tracing::info!(user = user_id, is_superuser, "a user was set");
            let after = UserInfo { user_id, is_superuser };
            Ok((Trace::of(before.as_ref(), Some(&after)), after))
        })
        .await
}

/// DELETE /authentication/password_based:built_in_database/users/{user}
pub(super) async fn delete_user(State(shared): State<Shared>, Path(user): Path<String>) -> Traced<Done> {
    let clients = Arc::clone(&shared.clients);
    shared
        .run_traced(move |_| {
            let before = known(&clients, &user)?;
            if before.is_none() {
                return Err(Problem::new(Code::NotFound, format!("there is no user \"{user}\"")));
            }
            clients.users.set(&user, None).map_err(store_failed)?;
            tracing::info!(user, "a user was removed");
            Ok((Trace::of(before.as_ref(), None), Done {}))
        })
        .await
}

/// A user of the store.
fn known(clients: &Clients, user: &str) -> Result<Option<UserInfo>, Problem> {
    let found = clients.users.get(user).map_err(store_failed)?;
    Ok(found.map(|found| UserInfo { user_id: user.to_owned(), is_superuser: found.is_superuser }))
}

/// Whom a path is about: `all`, `users/NAME` or `clients/NAME`.
pub(crate) fn subject(kind: &str, name: Option<String>) -> Result<Subject, Problem> {
    match (kind, name) {
        ("all", None) => Ok(Subject::All),
        ("users", Some(name)) => Ok(Subject::User(name)),
        ("clients", Some(name)) => Ok(Subject::Client(name)),
        _ => Err(Problem::new(Code::NotFound, "permissions are those of \"all\", \"users/NAME\" or \"clients/NAME\"")),
    }
}

/// What [`subject`] reads.
pub(super) fn described(subject: Subject) -> (&'static str, Option<String>) {
    match subject {
        Subject::All => ("all", None),
        Subject::User(name) => ("users", Some(name)),
        Subject::Client(name) => ("clients", Some(name)),
    }
}

/// GET /authorization/sources/built_in_database/rules/…
pub(super) async fn get_rules(State(shared): State<Shared>, Path(path): Path<Vec<String>>) -> Answer<serde_json::Value> {
    let clients = Arc::clone(&shared.clients);
    shared
        .run(move |_| {
            let mut path = path.into_iter();
            let subject = subject(&path.next().unwrap_or_default(), path.next())?;
            let found = clients.users.permissions(&subject).map_err(store_failed)?;
            found.ok_or_else(|| Problem::new(Code::NotFound, "there are no permissions for that"))
        })
        .await
}

/// PUT /authorization/sources/built_in_database/rules/…
pub(super) async fn put_rules(
    State(shared): State<Shared>,
    Path(path): Path<Vec<String>>,
    Json(rules): Json<serde_json::Value>,
) -> Traced<serde_json::Value> {
    hookline_access::check_permissions(&rules).map_err(|problem| Problem::new(Code::BadRequest, problem))?;
    set_rules(shared, path, Some(rules)).await
}

/// DELETE /authorization/sources/built_in_database/rules/…
pub(super) async fn delete_rules(State(shared): State<Shared>, Path(path): Path<Vec<String>>) -> Traced<serde_json::Value> {
    set_rules(shared, path, None).await
}

async fn set_rules(shared: Shared, path: Vec<String>, rules: Option<serde_json::Value>) -> Traced<serde_json::Value> {
    let clients = Arc::clone(&shared.clients);
    shared
        .run_traced(move |_| {
            let mut path = path.into_iter();
            let subject = subject(&path.next().unwrap_or_default(), path.next())?;
            let before = clients.users.permissions(&subject).map_err(store_failed)?;
            clients.users.set_permissions(&subject, rules.as_ref()).map_err(store_failed)?;
            clients.have_rights_renewed();
            tracing::info!(?subject, removed = rules.is_none(), "permissions were set");
            Ok((Trace::of(before.as_ref(), rules.as_ref()), rules.unwrap_or_default()))
        })
        .await
}
