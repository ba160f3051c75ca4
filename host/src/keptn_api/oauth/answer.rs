//! Reads what an identity provider answers to a request for a token.
//!
//! Called by [`super::request`]. It is as tolerant as the original: JSON or a form, numbers as numbers or as text.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

/// A year: longer lives are as good as no end, and must not overflow.
const LONGEST_LIFE_SECONDS: f64 = 365.0 * 86_400.0;

/// A token as it stands in a header.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// Marked as sensitive.
    pub(super) header: HeaderValue,
    /// How long it is valid; none if that was not said.
    pub(super) life: Option<Duration>,
}

/// The fields of an answer that matter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Value,
    error: Option<String>,
    error_description: Option<String>,
}

/// Takes an answer with a status of 2xx apart.
///
/// # Errors
/// Why it holds no token. The text may repeat what the provider says.
pub(super) fn token(content_type: &str, body: &[u8]) -> Result<Token, String> {
    let fields = fields(content_type, body).ok_or_else(|| {
        let what = if content_type.is_empty() {
            "no content type"
        } else {
            content_type
        };
        format!("the answer is neither JSON nor a form ({what})")
    })?;
    if let Some(error) = fields.said() {
        return Err(format!("refused: {error}"));
    }
    let token = fields.access_token.filter(|token| !token.is_empty());
    let token = token.ok_or("the answer has no access_token")?;
    let kind = match fields.token_type.as_deref().unwrap_or_default() {
        "" => "Bearer",
        kind if kind.eq_ignore_ascii_case("bearer") => "Bearer",
        kind if kind.eq_ignore_ascii_case("mac") => "MAC",
        kind if kind.eq_ignore_ascii_case("basic") => "Basic",
        kind => kind,
    };
    let mut header = HeaderValue::from_str(&format!("{kind} {token}"))
        .map_err(|_| "the token holds a character that no HTTP header may have")?;
    header.set_sensitive(true);
    Ok(Token {
        header,
        life: life(&fields.expires_in),
    })
}

/// What an answer with another status says about the reason.
pub(super) fn reason(content_type: &str, body: &[u8]) -> Option<String> {
    fields(content_type, body)?.said()
}

impl Fields {
    fn said(&self) -> Option<String> {
        let error = self.error.as_deref().filter(|error| !error.is_empty())?;
        Some(match self.error_description.as_deref().unwrap_or_default() {
            "" => error.to_owned(),
            description => format!("{error}: {description}"),
        })
    }
}

fn fields(content_type: &str, body: &[u8]) -> Option<Fields> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let may_be_form = ["application/x-www-form-urlencoded", "text/plain"]
        .iter()
        .any(|form| media_type.eq_ignore_ascii_case(form));
    // Some send JSON and call it text.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    if !may_be_form || is_object {
        return serde_json::from_slice(body).ok();
    }
    let mut fields = Fields::default();
    for (name, value) in url::form_urlencoded::parse(body) {
        let value = value.into_owned();
        match &*name {
            "access_token" => fields.access_token = Some(value),
            "token_type" => fields.token_type = Some(value),
            "expires_in" => fields.expires_in = Value::String(value),
            "error" => fields.error = Some(value),
            "error_description" => fields.error_description = Some(value),
            _ => {}
        }
    }
    Some(fields)
}

/// A number of seconds as a number or as text; anything else, and nothing, is no end.
fn life(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (seconds > 0.0 && seconds < LONGEST_LIFE_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json; charset=utf-8";

    fn read(content_type: &str, body: &str) -> Result<(String, Option<u64>), String> {
        let token = token(content_type, body.as_bytes())?;
        assert!(token.header.is_sensitive());
        let life = token.life.map(|life| life.as_secs());
        Ok((token.header.to_str().unwrap().to_owned(), life))
    }

    #[test]
    fn answers_are_json_or_a_form() {
        let check = |content_type: &str, body: &str, header: &str, life: Option<u64>| {
            assert_eq!(read(content_type, body), Ok((header.to_owned(), life)), "{body}");
        };
        check(JSON, r#"{"access_token":"a","expires_in":60}"#, "Bearer a", Some(60));
        check(JSON, r#"{"access_token":"a","expires_in":"60"}"#, "Bearer a", Some(60));
        check(JSON, r#"{"access_token":"a","expires_in":0}"#, "Bearer a", None);
        check(JSON, r#"{"access_token":"a","expires_in":null}"#, "Bearer a", None);
        check(JSON, r#"{"access_token":"a","expires_in":-1}"#, "Bearer a", None);
        check(JSON, r#"{"access_token":"a","expires_in":1e300}"#, "Bearer a", None);
        check("", r#" {"access_token":"a","refresh_token":7}"#, "Bearer a", None);
        check("text/plain", r#"{"access_token":"a"}"#, "Bearer a", None);
        let form = "access_token=a%2Bb&token_type=bearer&expires_in=60&scope=x";
        check("application/x-www-form-urlencoded", form, "Bearer a+b", Some(60));
        check("Text/Plain; charset=utf-8", form, "Bearer a+b", Some(60));
    }

    #[test]
    fn the_type_of_a_token_is_written_as_the_original_does() {
        let check = |kind: &str, expected: &str| {
            let body = format!(r#"{{"access_token":"a","token_type":"{kind}"}}"#);
            assert_eq!(read(JSON, &body).unwrap().0, format!("{expected} a"));
        };
        check("bearer", "Bearer");
        check("BEARER", "Bearer");
        check("mac", "MAC");
        check("basic", "Basic");
        check("DPoP", "DPoP");
        check("", "Bearer");
    }

    #[test]
    fn what_holds_no_token_says_why() {
        let check = |content_type: &str, body: &str, expected: &str| {
            let error = read(content_type, body).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check(JSON, "{}", "no access_token");
        check(JSON, r#"{"access_token":""}"#, "no access_token");
        check(JSON, r#"{"access_token":"a","error":"invalid_scope"}"#, "invalid_scope");
        check(JSON, r#"{"error":"a","error_description":"b"}"#, "a: b");
        check("text/html", "<html>", "neither JSON nor a form (text/html)");
        check(JSON, "", "neither JSON");
        check("text/plain", "hello", "no access_token");
        check(JSON, r#"{"access_token":"a\nb"}"#, "no HTTP header");
    }
}
