//! The status page: `/`, and `/status.html`, which is what is in it.
//!
//! The server writes all of it, so that it can be read without JavaScript, and so that there is one place that escapes.
//! The script asks for `/status.html` every second, and puts what is new in the place of what is old; changes go to the
//! same routes as everybody's. One file, nothing from elsewhere, and a policy by which a browser runs nothing else.

mod chain;
mod events;
mod html;
mod overview;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest, Sha256};

use self::html::Html;
use super::access::Access;
use super::problem;
use crate::dead_letter::Listing;
use crate::recent_events::RecentEvent;
use crate::status::{Observer, Status};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// A dot: browsers ask for an icon, and what they do not find they complain about.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='%230b5cad'/%3E%3C/svg%3E";

#[derive(Debug, Clone)]
struct Page {
    observer: Arc<Observer>,
    access: Access,
    policy: HeaderValue,
}

pub(super) fn routes(observer: Arc<Observer>, access: Access) -> Router {
    let page = Page {
        observer,
        access,
        policy: policy(),
    };
    Router::new()
        .route("/", get(whole))
        .route("/status.html", get(content))
        .with_state(page)
}

/// Whoever has no token yet gets the page without anything in it; it asks for the token.
async fn whole(State(page): State<Page>, method: Method, headers: HeaderMap) -> Response<Body> {
    let content = match page.access.check(&method, &headers) {
        Ok(()) => Some(page.content().await),
        Err((StatusCode::UNAUTHORIZED, _)) => None,
        Err((status, detail)) => return problem(status, detail),
    };
    page.answer(shell(content))
}

async fn content(State(page): State<Page>, method: Method, headers: HeaderMap) -> Response<Body> {
    match page.access.check(&method, &headers) {
        Ok(()) => page.answer(page.content().await),
        Err((status, detail)) => problem(status, detail),
    }
}

impl Page {
    async fn content(&self) -> Html {
        let recent = self.observer.recent().list();
        let listing = self.observer.dead_letters().await;
        let status = self.observer.status().await;
        render(&status, &listing, &recent)
    }

    fn answer(&self, html: Html) -> Response<Body> {
        let mut response = Response::new(Body::from(html.into_string()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        response
    }
}

/// The content: what is stuck first, what is of use with it next.
fn render(status: &Status, listing: &Listing, recent: &[RecentEvent]) -> Html {
    let mut html = Html::default();
    overview::headline(&mut html, status);
    overview::flow(&mut html, status);
    events::retrying(&mut html, status);
    events::dead_letters(&mut html, status, listing);
    chain::plugins(&mut html, status);
    overview::connections(&mut html, status);
    overview::subscriptions(&mut html, status);
    events::recent(&mut html, status, recent);
    overview::foot(&mut html, status);
    html
}

/// The page around the content.
fn shell(content: Option<Html>) -> Html {
    let mut html = Html::default();
    html.raw(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>distributor</title>\n<link rel=\"icon\" href=\"",
    )
    .raw(ICON)
    .raw("\">\n<style>")
    .raw(STYLE)
    .raw("</style>\n");
    if content.is_some() {
        html.raw("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n");
    }
    html.raw(
        "</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the content</a>\n\
         <p id=\"offline\" class=\"banner stuck\" role=\"alert\" hidden></p>\n\
         <form id=\"login\" class=\"card\" aria-label=\"Access\" hidden>\n<h1>distributor</h1>\n\
         <p>This page needs the token of <code>CONTROL_TOKEN</code>.</p>\n<p id=\"login-error\" class=\"error\" role=\"alert\"></p>\n\
         <label for=\"token\">Token</label>\n<input id=\"token\" type=\"password\" autocomplete=\"off\" required>\n\
         <button class=\"primary\">Open</button>\n</form>\n",
    );
    match content {
        Some(content) => html.raw("<main id=\"main\" tabindex=\"-1\">\n").append(&content),
        None => html.raw(
            "<main id=\"main\" tabindex=\"-1\" data-locked>\n<noscript><p class=\"card\">With a token this page needs \
             JavaScript. <code>distributor status</code> shows the same in a terminal.</p></noscript>\n",
        ),
    };
    html.raw(
        "</main>\n<div id=\"notice\" role=\"status\" aria-live=\"polite\"></div>\n\
         <dialog id=\"confirm\" aria-labelledby=\"confirm-title\" aria-describedby=\"confirm-text\">\n<form method=\"dialog\">\n\
         <h2 id=\"confirm-title\"></h2>\n<p id=\"confirm-text\"></p>\n<div class=\"actions\">\n\
         <button value=\"no\" autofocus>Cancel</button>\n<button value=\"yes\" id=\"confirm-yes\"></button>\n</div>\n</form>\n\
         </dialog>\n<script>",
    )
    .raw(SCRIPT)
    .raw("</script>\n</body>\n</html>\n");
    html
}

/// Style and script are known by their hashes; everything else is forbidden, whatever an event or a plugin says.
fn policy() -> HeaderValue {
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).expect("it is plain ASCII")
}

#[cfg(test)]
mod tests;
