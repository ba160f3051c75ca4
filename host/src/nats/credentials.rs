//! Who we are to NATS: read again for each connection, so that what was replaced on disk counts from the next one on.
//!
//! Called by [`super::connect`].

use std::sync::{Mutex, PoisonError};

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;
use percent_encoding::percent_decode_str;
use secrecy::ExposeSecret;

use crate::config::{NatsConfig, NatsCredentials};
use crate::secret::Secret;

/// Options with the credentials of the configuration, or else those of the URLs.
pub(super) fn options(config: &NatsConfig) -> ConnectOptions {
    let Some(credentials) = config.credentials.clone() else {
        return from_url(config);
    };
    // The client tries again all the time, and does not say what was wrong.
    let last_problem = Mutex::new(String::new());
    ConnectOptions::with_auth_callback(move |nonce| {
        let auth = auth(&credentials, &nonce);
        if let Err(problem) = &auth {
            let mut last = last_problem.lock().unwrap_or_else(PoisonError::into_inner);
            if *last != *problem {
                tracing::warn!(problem, "there are no credentials for NATS");
                last.clone_from(problem);
            }
        }
        async move { auth.map_err(AuthError::new) }
    })
}

/// The client leaves alone what stands before the `@` of a URL. As in the original a user with a password is one, and a
/// user alone is a token; the first server that has any speaks for all.
fn from_url(config: &NatsConfig) -> ConnectOptions {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let first = config.servers.iter().find(|server| server.has_user_pass());
    match first.map(|server| (server.username(), server.password())) {
        Some((Some(user), Some(password))) => ConnectOptions::with_user_and_password(decoded(user), decoded(password)),
        Some((Some(token), None)) => ConnectOptions::with_token(decoded(token)),
        _ => ConnectOptions::new(),
    }
}

fn auth(credentials: &NatsCredentials, nonce: &[u8]) -> Result<Auth, String> {
    let mut auth = Auth::new();
    match credentials {
        NatsCredentials::User { name, password } => {
            auth.username = Some(name.clone());
            auth.password = Some(value(password)?);
        }
        NatsCredentials::Token(token) => auth.token = Some(value(token)?),
        NatsCredentials::File(file) => {
            let text = value(file)?;
            let (jwt, seed) = jwt_and_seed(&text).ok_or("NATS_CREDS_FILE: it holds no JWT with the seed of a key")?;
            // The error of the crate is not shown: it is about the seed.
            let key = KeyPair::from_seed(seed).map_err(|_| "NATS_CREDS_FILE: the seed in it is none")?;
            auth.signature = Some(key.sign(nonce).map_err(|error| format!("NATS_CREDS_FILE: {error}"))?);
            auth.jwt = Some(jwt.to_owned());
        }
    }
    Ok(auth)
}

fn value(secret: &Secret) -> Result<String, String> {
    let current = secret.current().map_err(|error| error.to_string())?;
    Ok(current.value.expose_secret().to_owned())
}

/// The two blocks of a credentials file, each a line between two lines of dashes.
fn jwt_and_seed(text: &str) -> Option<(&str, &str)> {
    let block = |title: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN") && line.contains(title))?;
        lines.find(|line| !line.is_empty())
    };
    Some((block("USER JWT")?, block("NKEY SEED")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_has_a_jwt_and_a_seed() {
        let key = KeyPair::new_user();
        let seed = key.seed().unwrap();
        let check = |text: &str, expected: Option<(&str, &str)>| assert_eq!(jwt_and_seed(text), expected, "{text}");
        let file = format!(
            "-----BEGIN NATS USER JWT-----\r\na.b.c\r\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------"
        );
        check(&file, Some(("a.b.c", &seed)));
        check("-----BEGIN NATS USER JWT-----\na.b.c\n", None);
        check("", None);

        let auth_of = |text: &str| auth(&NatsCredentials::File(Secret::fixed(text.to_owned())), b"nonce");
        let auth = auth_of(&file).unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("a.b.c"));
        key.verify(b"nonce", &auth.signature.unwrap()).unwrap();
        let broken = auth_of(&file.replace(&seed, "SUABROKENSEED")).err().unwrap();
        assert!(
            broken.contains("NATS_CREDS_FILE") && !broken.contains("BROKEN"),
            "{broken}"
        );
        assert!(auth_of("nothing").err().unwrap().contains("no JWT"));
    }
}
