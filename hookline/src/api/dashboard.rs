//! The dashboard: the static files of `dashboard/dist`, which are a part of the binary.

use std::borrow::Cow;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../dashboard/dist"]
struct Files;

/// What a page of this origin may load, and that no other page may show it in a frame.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// The names of files in there change with what is in them.
const ASSETS: &str = "assets/";
/// What is beside the page.
const BESIDE: [&str; 3] = ["icon.svg", "licenses.md", "licenses-fonts.md"];
/// A binary that was built without the page.
const MISSING: &str = "<!doctype html><title>Hookline</title><p>This binary was built without the dashboard. <code>make build</code> builds both; it \
                       needs npm. The API is at <code>/api/v5</code>, metrics at <code>/metrics</code>.";

/// The page and what belongs to it. None of it is secret: it knows nothing before somebody has logged in.
pub(super) fn routes() -> Router {
    let asset = |Path(path): Path<String>, headers: HeaderMap| async move { serve(&format!("{ASSETS}{path}"), &headers) };
    let page = Router::new()
        .route("/", get(|headers: HeaderMap| async move { serve("index.html", &headers) }))
        .route("/assets/{*path}", get(asset));
    BESIDE
        .iter()
        .fold(page, |page, name| page.route(&format!("/{name}"), get(move |headers: HeaderMap| async move { serve(name, &headers) })))
}

/// Whether the page is in the binary.
pub(crate) fn is_there() -> bool {
    Files::get("index.html").is_some()
}

fn serve(path: &str, headers: &HeaderMap) -> Response {
    let takes_gzip = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).is_some_and(|all| all.contains("gzip"));
    // The build compresses what is worth it.
    let packed = Files::get(&format!("{path}.gz")).filter(|_| takes_gzip).map(|file| (file, true));
    let Some((file, is_packed)) = packed.or_else(|| Some((Files::get(path)?, false))) else {
        let page = if path == "index.html" {
            MISSING
        } else {
            "<!doctype html><title>Hookline</title><p>There is no such page. <a href=/>Dashboard</a>"
        };
        return (StatusCode::NOT_FOUND, Html(page)).into_response();
    };
    let cache = if path.starts_with(ASSETS) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut answer = match file.data {
        Cow::Borrowed(bytes) => bytes.into_response(),
        Cow::Owned(bytes) => bytes.into_response(),
    };
    let mut set = |name, value: &'static str| drop(answer.headers_mut().insert(name, header::HeaderValue::from_static(value)));
    set(header::CONTENT_TYPE, media_type(path));
    set(header::CACHE_CONTROL, cache);
    set(header::VARY, "accept-encoding");
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    if is_packed {
        set(header::CONTENT_ENCODING, "gzip");
    }
    answer
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("woff2") => "font/woff2",
        Some("md") => "text/markdown; charset=utf-8",
        _ => "application/octet-stream",
    }
}
