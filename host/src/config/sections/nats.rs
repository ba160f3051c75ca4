//! Where events come from: NATS, and the durable consumer of a stream.
//!
//! Called by [`super::super::from_env`].

use async_nats::ServerAddr;
use http::Uri;
use sha2::{Digest, Sha256};

use super::super::read::Reader;
use super::super::variables as var;
use super::super::{DeliveryMode, JetStreamConfig, NatsConfig, NatsCredentials};
use super::secret;
use crate::secret::Secret;
use crate::subject::Subject;
use crate::tls::ClientCertificate;

pub(in crate::config) fn nats(reader: &mut Reader<'_>) -> NatsConfig {
    let mut servers = Vec::new();
    let text = reader.text(&var::PUBSUB_URL);
    for server in text.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        match server.parse::<ServerAddr>() {
            Ok(address) => servers.push(address),
            // The text may hold a password: it is not repeated.
            Err(error) => reader.problem(
                &var::PUBSUB_URL,
                format!("server {} of the list: {error}", servers.len() + 1),
            ),
        }
    }
    if servers.is_empty() && reader.problems.is_empty() {
        reader.problem(&var::PUBSUB_URL, "names no server");
    }
    let mut topics: Vec<Subject> = Vec::new();
    for topic in reader.list(&var::PUBSUB_TOPIC).iter().filter(|topic| !topic.is_empty()) {
        match Subject::pattern(topic) {
            Ok(topic) if topics.contains(&topic) => {}
            Ok(topic) => topics.push(topic),
            Err(error) => reader.problem(&var::PUBSUB_TOPIC, format!("{topic:?} {error}")),
        }
    }
    let group = reader.text(&var::PUBSUB_GROUP);
    if group.chars().any(char::is_whitespace) {
        reader.problem(&var::PUBSUB_GROUP, format!("{group:?} contains white space"));
    }
    NatsConfig {
        servers,
        group: Some(group).filter(|group| !group.is_empty()),
        topics,
        credentials: nats_credentials(reader),
        client_certificate: client_certificate(reader),
    }
}

fn nats_credentials(reader: &mut Reader<'_>) -> Option<NatsCredentials> {
    let name = reader.text(&var::NATS_USER);
    let password = secret(reader, &var::NATS_PASSWORD, &var::NATS_PASSWORD_FILE);
    let token = secret(reader, &var::NATS_TOKEN, &var::NATS_TOKEN_FILE);
    let file = Some(reader.text(&var::NATS_CREDS_FILE)).filter(|path| !path.is_empty());
    let file = file.map(|path| Secret::in_file(var::NATS_CREDS_FILE.name, path.into()));
    let user = match (name.is_empty(), password) {
        (true, None) => None,
        (false, Some(password)) => Some(NatsCredentials::User { name, password }),
        (false, None) => {
            reader.problem(&var::NATS_USER, "needs NATS_PASSWORD or NATS_PASSWORD_FILE");
            None
        }
        (true, Some(_)) => {
            reader.problem(&var::NATS_PASSWORD, "needs NATS_USER");
            None
        }
    };
    let mut given = [user, token.map(NatsCredentials::Token), file.map(NatsCredentials::File)]
        .into_iter()
        .flatten();
    let first = given.next();
    if given.next().is_some() {
        reader.problem(
            &var::NATS_USER,
            "only one of a user, NATS_TOKEN and NATS_CREDS_FILE can count",
        );
    }
    first
}

fn client_certificate(reader: &mut Reader<'_>) -> Option<ClientCertificate> {
    let certificate = reader.text(&var::NATS_TLS_CERT_FILE);
    let key = reader.text(&var::NATS_TLS_KEY_FILE);
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) => None,
        (false, false) => Some(ClientCertificate {
            certificate: certificate.into(),
            key: key.into(),
        }),
        _ => {
            reader.problem(
                &var::NATS_TLS_CERT_FILE,
                "needs NATS_TLS_KEY_FILE, and that one needs this",
            );
            None
        }
    }
}

pub(in crate::config) fn jetstream(reader: &mut Reader<'_>, group: Option<&str>, recipient: &Uri) -> JetStreamConfig {
    let name = |reader: &mut Reader<'_>, variable: &var::Variable| {
        let name = reader.text(variable);
        if name.contains(|c: char| c.is_whitespace() || c.is_control() || "./\\*>".contains(c)) {
            reader.problem(
                variable,
                format!("{name:?} contains white space or one of `. / \\ * >`"),
            );
        }
        Some(name).filter(|name| !name.is_empty())
    };
    let stream = name(reader, &var::JETSTREAM_STREAM);
    let durable = name(reader, &var::JETSTREAM_DURABLE);
    JetStreamConfig {
        mode: reader.choice(
            &var::DELIVERY_MODE,
            &[
                ("auto", DeliveryMode::Auto),
                ("jetstream", DeliveryMode::JetStream),
                ("core", DeliveryMode::Core),
            ],
        ),
        stream,
        is_shared: group.is_some() || durable.is_some(),
        durable: durable.unwrap_or_else(|| durable_name(reader, group, recipient)),
        ack_wait: reader.positive_duration(&var::JETSTREAM_ACK_WAIT, "would give every event to everybody"),
        max_events: reader.count(&var::DELIVERY_MAX_INFLIGHT, 1) as usize,
        max_bytes: reader.bytes(&var::DELIVERY_MAX_INFLIGHT_BYTES),
    }
}

/// A name that the replicas of one service share, and nobody else has. Where nothing tells services apart, the host does,
/// and so it does where every instance is to get every event.
fn durable_name(reader: &Reader<'_>, group: Option<&str>, recipient: &Uri) -> String {
    let deployment = reader.text(&var::K8S_DEPLOYMENT_NAME);
    let host = || {
        let pod = reader.text(&var::K8S_POD_NAME);
        if pod.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            pod
        }
    };
    let instance = if deployment.is_empty() || group.is_none() {
        host()
    } else {
        String::new()
    };
    let parts = [
        reader.text(&var::K8S_NAMESPACE),
        deployment.clone(),
        group.unwrap_or_default().to_owned(),
        recipient.to_string(),
        instance.clone(),
    ];
    let digest = Sha256::digest(parts.join("\0"));
    let readable = if deployment.is_empty() { instance } else { deployment };
    let readable: String = readable
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
        .take(32)
        .collect();
    format!(
        "{readable}-{:x}",
        u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer"))
    )
}
