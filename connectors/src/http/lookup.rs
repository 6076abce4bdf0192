//! Questions: a request, whose status and JSON body are the answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Record, Value};
use reqwest::Client;
use tokio::sync::{Mutex, OnceCell};

use super::client;
use super::config::{Auth, Connector, Parameters};
use super::request::Request;
use super::sink::authorized;
use crate::connector::Failure;
use crate::kind::SettingsError;
use crate::oauth2::Token;

struct HttpLookup {
    connector: Connector,
    parameters: Parameters,
    request: Request,
    data_dir: PathBuf,
    client: OnceCell<Client>,
    token: Mutex<Option<Token>>,
}

impl HttpLookup {
    /// A token that lasts, where one is needed.
    async fn token(&self, client: &Client) -> Result<Option<Token>, Failure> {
        let mut token = self.token.lock().await;
        if let Some(settings) = self.connector.auth.as_ref().and_then(Auth::oauth2) {
            Token::renew(&mut token, settings, client).await?;
        }
        Ok(token.clone())
    }
}

pub(super) fn open(connector: Connector, parameters: Parameters, data_dir: &Path) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let request = Request::new(&connector, &parameters)?;
    Ok(Arc::new(HttpLookup {
        connector,
        parameters,
        request,
        data_dir: data_dir.to_owned(),
        client: OnceCell::new(),
        token: Mutex::default(),
    }))
}

impl Lookup for HttpLookup {
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
        Box::pin(async move {
            let failed = LookupError::Backend;
            let client = self.client.get_or_try_init(|| client::open(&self.connector, &self.data_dir)).await;
            let client = client.map_err(LookupError::from)?;
            let record = Record { sequence: 0, hookline_id: String::new(), bytes: 0, row: row.clone(), trace: None };
            let prepared = self.request.prepare(std::slice::from_ref(&record)).map_err(LookupError::Question)?;
            let mut request = client.request(self.parameters.method.into(), prepared.url).headers(prepared.headers);
            if let Some(body) = prepared.body {
                request = request.body(body);
            }
            let token = self.token(client).await.map_err(LookupError::from)?;
            let request = authorized(self.connector.auth.as_ref(), token.as_ref(), request);
            let mut response = request.send().await.map_err(|error| failed(format!("http: {}", client::explain(&error.without_url()))))?;
            let status = response.status().as_u16();
            // The server does not take the token any more: the next question fetches a new one.
            if status == 401 && token.is_some() {
                *self.token.lock().await = None;
                return Err(failed("http: answered 401 to a token of this broker".to_owned()));
            }
            // Not about what was asked: it may be over soon, or this broker's own login is wrong.
            if matches!(status, 407 | 408 | 425 | 429 | 500..) {
                return Err(failed(format!("http: answered {status}")));
            }
            let body = client::body(&mut response).await;
            let mut answer = Map::new();
            answer.push_new("status", Value::Int(status.into()));
            answer.push_new("body", serde_json::from_slice(&body).map_or(Value::Null, Value::from_json));
            Ok(vec![Value::Map(answer)])
        })
    }
}
