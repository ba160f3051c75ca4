//! How the distributor is operated: the control listener, and what plugins leave behind.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::secret;
use crate::config::ControlConfig;
use crate::config::read::Reader;
use crate::config::variables as var;

/// The default has the user's number in its name: what another user has made there is not used.
pub(in crate::config) fn plugins_cache_dir(reader: &Reader<'_>) -> Option<PathBuf> {
    match reader.text(&var::PLUGINS_CACHE_DIR).as_str() {
        "" => {
            let user = rustix::process::geteuid().as_raw();
            Some(std::env::temp_dir().join(format!("distributor-{user}")))
        }
        "off" => None,
        path => Some(path.into()),
    }
}

pub(in crate::config) fn control(reader: &mut Reader<'_>) -> ControlConfig {
    let text = reader.text(&var::CONTROL_BIND);
    let token = secret(reader, &var::CONTROL_TOKEN, &var::CONTROL_TOKEN_FILE);
    let address: Option<SocketAddr> = match text.replacen("localhost:", "127.0.0.1:", 1).as_str() {
        "" | "off" => None,
        text => text.parse().ok().or_else(|| {
            let problem = format!("{text:?} is not an IP address with a port, e.g. `127.0.0.1:8092`, and not `off`");
            reader.problem(&var::CONTROL_BIND, problem);
            None
        }),
    };
    if address.is_some_and(|address| !address.ip().is_loopback()) && token.is_none() {
        let problem = format!("{text:?} can be reached by others, which needs CONTROL_TOKEN or CONTROL_TOKEN_FILE");
        reader.problem(&var::CONTROL_BIND, problem);
    }
    ControlConfig {
        address,
        is_default: text == var::CONTROL_BIND.default,
        token,
    }
}
