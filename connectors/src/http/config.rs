//! Settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::oauth2::OAuth2;

/// An HTTP server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// Where it is: `https://host:port/path`. What an action's `path` says goes behind it.
    pub(crate) url: String,
    /// Headers of every request, such as `X-Api-Key`.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// How we log in.
    #[serde(default)]
    pub(crate) auth: Option<Auth>,
    /// Signs the body of every request.
    #[serde(default)]
    pub(crate) signature: Option<Signature>,
    /// Certificates for `https`.
    #[serde(default)]
    pub(crate) tls: Tls,
    /// The proxy that requests go through, as `http://user:password@host:port`.
    #[serde(default)]
    pub(crate) proxy: Option<String>,
    /// Seconds that one request may take, its answer included. Then the connection is made anew, and the request sent again.
    #[serde(default = "timeout_secs")]
    pub(crate) timeout_secs: u64,
    /// How many redirects are followed: those that keep method and body (307, 308), to the same host. A redirect that is not
    /// followed is tried again.
    #[serde(default)]
    pub(crate) redirects_max: usize,
}

/// How we log in.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A name and a password.
    Basic { username: String, password: String },
    /// A token that does not change.
    Bearer { token: String },
    /// OAuth 2.0, client credentials: a token from `token_url`, renewed before it ends, and when the server does not take it.
    Oauth2(OAuth2),
}

impl Auth {
    /// Where tokens come from, if we log in by them.
    pub(super) fn oauth2(&self) -> Option<&OAuth2> {
        match self {
            Auth::Oauth2(settings) => Some(settings),
            Auth::Basic { .. } | Auth::Bearer { .. } => None,
        }
    }
}

/// A signature: `sha256=` and the HMAC-SHA256 of the body, in hexadecimal.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signature {
    /// What both sides know.
    pub(crate) secret: String,
    /// The name of the header.
    #[serde(default = "signature_header")]
    pub(crate) header: String,
}

/// Certificates, as PEM files; relative paths are below the data folder. They are read anew at each connection.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Tls {
    /// The authorities that the server's certificate may come from, in place of the system's.
    pub(crate) ca: Option<PathBuf>,
    /// Our certificate, with those between it and its authority.
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
}

/// What is sent.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The method.
    #[serde(default)]
    pub(crate) method: Method,
    /// Template of what goes behind the connector's URL: `/devices/${clientid}?qos=${qos}`. What a placeholder brings is
    /// percent-encoded, so it stays within its place; a record without it is refused, but for one behind the `?`.
    #[serde(default)]
    pub(crate) path: String,
    /// Templates of headers, by name. A record whose value has a line break or another control character is refused.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// Template of the body as JSON: `{"device": "${clientid}", "value": ${value}}`. A placeholder that is a whole value keeps its
    /// type. `${.}` is the row, which is the default.
    #[serde(default)]
    pub(crate) json: Option<String>,
    /// Template of the body as text, in place of `json`; `${payload}` alone sends a payload as it is. Without a header
    /// `Content-Type`, none is sent.
    #[serde(default)]
    pub(crate) body: Option<String>,
    /// Whether records go together.
    #[serde(default)]
    pub(crate) batch: Batch,
    /// Further statuses after which a request is tried again, in place of a dead letter. 401, 407, 408, 425, 429 and those from
    /// 500 on are such without it.
    #[serde(default)]
    pub(crate) retry_statuses: Vec<u16>,
}

/// The method of a request. GET and DELETE have a body only where `json` or `body` is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    Get,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

/// Whether records go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Batch {
    /// One request for each record. `Idempotency-Key` is its `hookline_id`.
    #[default]
    Single,
    /// One request for records that come together and have the same path and headers: an array of their documents.
    /// `Idempotency-Key` is the first one's `hookline_id` and their number, as in `node:1:5+20`. After a restart others may come
    /// together: a server that must take nothing twice looks at `${hookline_id}` in the documents.
    Array,
}

impl Method {
    pub(super) fn has_body(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch)
    }
}

impl From<Method> for reqwest::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            Method::Patch => reqwest::Method::PATCH,
            Method::Delete => reqwest::Method::DELETE,
        }
    }
}

fn timeout_secs() -> u64 {
    30
}

fn signature_header() -> String {
    "X-Hookline-Signature".into()
}
