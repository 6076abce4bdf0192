//! From records to an HTTP request. Pure.

use aws_lc_rs::hmac;
use bytes::Bytes;
use hookline_schemas::trace::TRACESTATE;
use hookline_schemas::{Record, Template};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::config::{Auth, Batch, Connector, Parameters, Signature};
use crate::document::{Document, anything, row};
use crate::kind::{CONNECTOR, PARAMETERS, SettingsError, template};

/// What keeps its form in a path or a query. All else, `/`, `?`, `#` and `%` above all, is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Stands for a placeholder that is empty; nothing encoded has it.
const NOTHING: &str = "\0";
/// Headers that belong to the connection, or to us.
const RESERVED: [&str; 10] =
    ["connection", "content-length", "expect", "host", "idempotency-key", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// The templates of an action, and what the connector says of every request.
#[derive(Debug)]
pub(super) struct Request {
    base: Url,
    path: Template,
    fixed: HeaderMap,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
    batch: Batch,
    signature: Option<(HeaderName, hmac::Key)>,
}

#[derive(Debug)]
enum Body {
    None,
    Json(Document),
    Text(Template),
}

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    /// How many records it has.
    pub(super) records: usize,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
}

impl Request {
    pub(super) fn new(connector: &Connector, parameters: &Parameters) -> Result<Request, Vec<SettingsError>> {
        let wrong = |path: String, problem: &str| vec![SettingsError { path, problem: problem.to_owned() }];
        let base = base(&connector.url).map_err(|problem| wrong(format!("{CONNECTOR}.url"), &problem))?;
        let is_below = parameters.path.is_empty() || parameters.path.starts_with(['/', '?']);
        // Otherwise what a device sends could become part of the host's name.
        if !is_below || (!parameters.path.is_empty() && (base.query().is_some() || base.fragment().is_some())) {
            let problem = "must begin with \"/\" or \"?\", and the connector's URL must end before its query";
            return Err(wrong(format!("{PARAMETERS}.path"), problem));
        }
        let body = match (&parameters.json, &parameters.body) {
            (Some(_), Some(_)) => return Err(wrong(format!("{PARAMETERS}.body"), "there is `json` already; one of them can be the body")),
            (Some(json), None) => Body::Json(Document::parse("json", json)?),
            (None, Some(text)) => Body::Text(template("body", text)?),
            (None, None) if parameters.method.has_body() => Body::Json(Document::parse("json", "${.}")?),
            (None, None) => Body::None,
        };
        if parameters.batch == Batch::Array && !matches!(body, Body::Json(_)) {
            return Err(wrong(format!("{PARAMETERS}.batch"), "an array has documents, which are made of `json`"));
        }
        let signature = connector.signature.as_ref().map(signature).transpose()?;
        let mut fixed = HeaderMap::new();
        if matches!(body, Body::Json(_)) {
            fixed.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let is_ours = |name: &HeaderName| {
            let signs = signature.as_ref().is_some_and(|(header, _)| header == name);
            let logs_in = connector.auth.is_some() && name == reqwest::header::AUTHORIZATION;
            signs || logs_in || RESERVED.contains(&name.as_str())
        };
        for (name, value) in &connector.headers {
            let path = || format!("{CONNECTOR}.headers.{name}");
            let header = header_name(name, &is_ours).map_err(|problem| wrong(path(), &problem))?;
            let value = HeaderValue::from_str(value).map_err(|_| wrong(path(), "has a character that no header can have"))?;
            fixed.insert(header, value);
        }
        let mut headers = Vec::new();
        for (name, text) in &parameters.headers {
            let header = header_name(name, &is_ours).map_err(|problem| wrong(format!("{PARAMETERS}.headers.{name}"), &problem))?;
            headers.push((header, template(&format!("headers.{name}"), text)?));
        }
        check_auth(connector)?;
        Ok(Request { base, path: template("path", &parameters.path)?, fixed, headers, body, batch: parameters.batch, signature })
    }

    /// The request for the first records. The problem is the first one's.
    pub(super) fn prepare(&self, records: &[Record]) -> Result<Prepared, String> {
        let Some(first) = records.first() else { return Err("http: no record".into()) };
        let (url, mut headers) = self.target(first)?;
        let (body, records) = match (&self.body, self.batch) {
            (Body::None, _) => (None, 1),
            (Body::Text(template), _) => (Some(template.render(&row(template, first))), 1),
            (Body::Json(document), Batch::Single) => (Some(document.fill(first, &anything)?.to_json().to_string().into()), 1),
            (Body::Json(document), Batch::Array) => {
                let fits = |record: &&Record| self.target(record).is_ok_and(|(to, with)| to == url && with == headers);
                let together: Vec<&Record> = records.iter().take_while(fits).collect();
                let filled = together.iter().map(|record| document.fill(record, &anything).map(|value| value.to_json()));
                let array = filled.collect::<Result<serde_json::Value, String>>()?;
                (Some(Bytes::from(array.to_string())), together.len())
            }
        };
        let key = if records == 1 { first.hookline_id.clone() } else { format!("{}+{records}", first.hookline_id) };
        // A request has one context; of an array it is the first record's.
        if let Some(trace) = &first.trace {
            headers.remove(TRACESTATE);
            for (name, value) in trace.headers() {
                headers.insert(name, header_value(name, value.as_bytes())?);
            }
        }
        headers.insert("idempotency-key", header_value("Idempotency-Key", key.as_bytes())?);
        if let Some((name, secret)) = &self.signature {
            headers.insert(name.clone(), sign(secret, body.as_deref().unwrap_or_default()));
        }
        Ok(Prepared { records, url, headers, body })
    }

    /// Where a record goes, and with which headers.
    fn target(&self, record: &Record) -> Result<(Url, HeaderMap), String> {
        let values = row(&self.path, record);
        let path = self.path.rewrite(|placeholder| match placeholder.render(&values) {
            value if value.is_empty() => NOTHING.into(),
            value => percent_encode(&value, ENCODED).to_string(),
        });
        // Without its name, a device would become the folder of all devices.
        let leads_elsewhere = |segment: &str| segment == "." || segment == ".." || segment.contains(NOTHING);
        if path.split('?').next().is_some_and(|folders| folders.split('/').any(leads_elsewhere)) {
            return Err(format!("http: the path \"{}\" leads elsewhere: a placeholder is empty, or dots", path.replace(NOTHING, "")));
        }
        let path = path.replace(NOTHING, "");
        let url = match path.as_str() {
            "" => self.base.clone(),
            path => {
                let url = format!("{}{path}", self.base.as_str().trim_end_matches('/'));
                Url::parse(&url).map_err(|error| format!("http: the path \"{path}\" makes no URL: {error}"))?
            }
        };
        let mut headers = self.fixed.clone();
        for (name, template) in &self.headers {
            headers.insert(name.clone(), header_value(name.as_str(), &template.render(&row(template, record)))?);
        }
        Ok((url, headers))
    }
}

/// The URL of a server.
pub(crate) fn base(url: &str) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let has_host = matches!(parsed.scheme(), "http" | "https") && parsed.host_str().is_some();
    if has_host { Ok(parsed) } else { Err("must be http://… or https://…".into()) }
}

fn header_name(name: &str, is_ours: &dyn Fn(&HeaderName) -> bool) -> Result<HeaderName, String> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Err(_) => Err("is no name of a header".into()),
        Ok(name) if is_ours(&name) => Err("is set by the connector itself; leave it out".into()),
        Ok(name) => Ok(name),
    }
}

/// The value of a header. Control characters, line breaks above all, cannot be in one.
fn header_value(name: &str, value: &[u8]) -> Result<HeaderValue, String> {
    HeaderValue::from_bytes(value).map_err(|_| format!("http: the value of {name} has a line break or another control character"))
}

fn signature(settings: &Signature) -> Result<(HeaderName, hmac::Key), Vec<SettingsError>> {
    let wrong = |key: &str, problem: String| vec![SettingsError { path: format!("{CONNECTOR}.signature.{key}"), problem }];
    if settings.secret.is_empty() {
        return Err(wrong("secret", "is empty".into()));
    }
    let name = header_name(&settings.header, &|name| RESERVED.contains(&name.as_str())).map_err(|problem| wrong("header", problem))?;
    Ok((name, hmac::Key::new(hmac::HMAC_SHA256, settings.secret.as_bytes())))
}

fn sign(secret: &hmac::Key, body: &[u8]) -> HeaderValue {
    let tag = hmac::sign(secret, body);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("sha256={hex}")).expect("hexadecimal digits can be in a header")
}

/// What can be known to be wrong with a login before it is tried.
fn check_auth(connector: &Connector) -> Result<(), Vec<SettingsError>> {
    let wrong = |key: &str, problem: String| Err(vec![SettingsError { path: format!("{CONNECTOR}.auth.{key}"), problem }]);
    match &connector.auth {
        Some(Auth::Bearer { token }) if HeaderValue::from_str(token).is_err() => {
            wrong("token", "has a character that no header can have".into())
        }
        Some(Auth::Oauth2(settings)) => base(&settings.token_url).map(drop).or_else(|problem| wrong("token_url", problem)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::Value;
    use serde_json::json;

    use super::*;

    fn request(connector: serde_json::Value, parameters: serde_json::Value) -> Result<Request, Vec<SettingsError>> {
        let parameters = serde_json::from_value(parameters).expect("parameters");
        Request::new(&serde_json::from_value(connector).expect("a connector"), &parameters)
    }

    fn record(number: u64, row: serde_json::Value) -> Record {
        Record { sequence: number, hookline_id: format!("n:1:{number}"), bytes: 0, row: Value::from_json(row), trace: None }
    }

    fn header<'a>(prepared: &'a Prepared, name: &str) -> Option<&'a str> {
        prepared.headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn templates_make_the_request() {
        let connector = json!({"url": "https://h:8443/api/", "headers": {"X-Api-Key": "k"}, "signature": {"secret": "key"}});
        let parameters = json!({"path": "/devices/${clientid}?q=${q}", "headers": {"X-Topic": "${topic}"}, "json": r#"{"v": ${v}}"#});
        let request = request(connector, parameters).expect("valid");
        let record = record(7, json!({"clientid": "a/../b?c#d", "q": "1&r=2", "topic": "t/1", "v": 21.5}));
        let prepared = request.prepare(&[record]).expect("valid");
        assert_eq!(prepared.url.as_str(), "https://h:8443/api/devices/a%2F..%2Fb%3Fc%23d?q=1%26r%3D2");
        assert_eq!(prepared.body.as_deref(), Some(&br#"{"v":21.5}"#[..]));
        let expect = [("x-api-key", "k"), ("x-topic", "t/1"), ("idempotency-key", "n:1:7"), ("content-type", "application/json")];
        for (name, value) in expect {
            assert_eq!(header(&prepared, name), Some(value), "{name}");
        }
        assert!(header(&prepared, "x-hookline-signature").is_some_and(|value| value.starts_with("sha256=") && value.len() == 71));
    }

    #[test]
    fn the_signature_is_that_of_rfc_4231() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let expect = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(sign(&key, b"what do ya want for nothing?"), expect);
    }

    #[test]
    fn nothing_that_a_device_sends_leaves_its_place() {
        let parameters = json!({"path": "/d/${a}", "headers": {"X-A": "${b}"}});
        let request = request(json!({"url": "http://h"}), parameters).expect("valid");
        for row in
            [json!({"a": ".."}), json!({"a": "."}), json!({}), json!({"a": "x", "b": "1\r\nX-Admin: 1"}), json!({"a": "x", "b": "1\n"})]
        {
            assert!(request.prepare(&[record(1, row.clone())]).is_err(), "{row}");
        }
        let fine = request.prepare(&[record(1, json!({"a": "@evil.example:1/", "b": "ü"}))]).expect("valid");
        assert_eq!(fine.url.as_str(), "http://h/d/%40evil.example%3A1%2F");
    }

    #[test]
    fn an_array_takes_the_records_that_go_to_the_same_place() {
        let parameters = json!({"path": "/${site}", "batch": "array", "json": r#"{"id": "${hookline_id}"}"#});
        let request = request(json!({"url": "http://h"}), parameters).expect("valid");
        let records = [(1, "a"), (2, "a"), (3, "b")].map(|(number, site)| record(number, json!({"site": site})));
        let prepared = request.prepare(&records).expect("valid");
        assert_eq!(prepared.body.as_deref(), Some(&br#"[{"id":"n:1:1"},{"id":"n:1:2"}]"#[..]));
        assert_eq!((prepared.records, header(&prepared, "idempotency-key")), (2, Some("n:1:1+2")));
        let alone = request.prepare(&records[2..]).expect("valid");
        assert_eq!((alone.records, header(&alone, "idempotency-key")), (1, Some("n:1:3")));
    }

    #[test]
    fn bodies_are_json_or_text_or_nothing() {
        let body = |parameters| {
            let request = request(json!({"url": "http://h"}), parameters).expect("valid");
            let prepared = request.prepare(&[record(1, json!({"p": "x\"y"}))]).expect("valid");
            prepared.body.map(|body| String::from_utf8_lossy(&body).into_owned())
        };
        assert_eq!(body(json!({})).as_deref(), Some(r#"{"p":"x\"y"}"#));
        assert_eq!(body(json!({"body": "p=${p} ${hookline_id}"})).as_deref(), Some("p=x\"y n:1:1"));
        assert_eq!(body(json!({"method": "delete"})), None);
    }

    #[test]
    fn settings_that_make_no_sense_are_told() {
        let cases = [
            (json!({"url": "ftp://h"}), json!({}), "connector.url"),
            (json!({"url": "http://h", "headers": {"Host": "x"}}), json!({}), "connector.headers.Host"),
            (json!({"url": "http://h", "headers": {"X-A": "a\nb"}}), json!({}), "connector.headers.X-A"),
            (json!({"url": "http://h", "signature": {"secret": ""}}), json!({}), "connector.signature.secret"),
            (json!({"url": "http://h"}), json!({"path": ".evil.example"}), "parameters.path"),
            (json!({"url": "http://h?a=1"}), json!({"path": "/x"}), "parameters.path"),
            (json!({"url": "http://h"}), json!({"headers": {"Content-Length": "1"}}), "parameters.headers.Content-Length"),
            (json!({"url": "http://h"}), json!({"headers": {"a b": "1"}}), "parameters.headers.a b"),
            (json!({"url": "http://h"}), json!({"json": "${.}", "body": "x"}), "parameters.body"),
            (json!({"url": "http://h"}), json!({"batch": "array", "body": "x"}), "parameters.batch"),
            (json!({"url": "http://h", "auth": {"type": "bearer", "token": "a\nb"}}), json!({}), "connector.auth.token"),
        ];
        for (connector, parameters, path) in cases {
            let errors = request(connector.clone(), parameters.clone()).expect_err("wrong");
            assert_eq!(errors[0].path, path, "{connector} {parameters}");
        }
    }
}
