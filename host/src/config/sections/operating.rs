//! How the distributor is operated: the listeners for that, and what plugins leave behind.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::secret;
use crate::config::read::Reader;
use crate::config::variables as var;
use crate::config::{AdminConfig, ControlConfig, LogFormat};

pub(in crate::config) fn plugins_cache_dir(reader: &Reader<'_>) -> Option<PathBuf> {
    cache_dir(&reader.text(&var::PLUGINS_CACHE_DIR))
}

/// What `PLUGINS_CACHE_DIR` means. The default has the user's number in its name: what another user has made there is
/// not used.
pub fn cache_dir(text: &str) -> Option<PathBuf> {
    match text {
        "" => {
            let user = rustix::process::geteuid().as_raw();
            Some(std::env::temp_dir().join(format!("distributor-{user}")))
        }
        "off" => None,
        path => Some(path.into()),
    }
}

pub(in crate::config) fn admin(reader: &mut Reader<'_>) -> AdminConfig {
    let text = reader.text(&var::ADMIN_BIND);
    AdminConfig {
        address: address(reader, &var::ADMIN_BIND, &text),
        is_default: text == var::ADMIN_BIND.default,
    }
}

/// The address in `text`, which may also say that there is to be none.
fn address(reader: &mut Reader<'_>, variable: &var::Variable, text: &str) -> Option<SocketAddr> {
    match text.replacen("localhost:", "127.0.0.1:", 1).as_str() {
        "" | "off" => None,
        address => address.parse().ok().or_else(|| {
            let default = variable.default;
            let problem = format!("{text:?} is not an IP address with a port, e.g. `{default}`, and not `off`");
            reader.problem(variable, problem);
            None
        }),
    }
}

pub(in crate::config) fn control(reader: &mut Reader<'_>) -> ControlConfig {
    let text = reader.text(&var::CONTROL_BIND);
    let token = secret(reader, &var::CONTROL_TOKEN, &var::CONTROL_TOKEN_FILE);
    let address = address(reader, &var::CONTROL_BIND, &text);
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

pub(in crate::config) fn log_format(reader: &mut Reader<'_>) -> LogFormat {
    reader.choice(
        &var::LOG_FORMAT,
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    )
}

/// None: whoever starts them knows best.
pub(in crate::config) fn worker_threads(reader: &mut Reader<'_>) -> Option<NonZeroUsize> {
    /// Each takes memory, and machines for sidecars are smaller.
    const MAX: u32 = 64;
    let n_threads = reader.count(&var::WORKER_THREADS, 0);
    if n_threads > MAX {
        reader.problem(&var::WORKER_THREADS, format!("{n_threads} are more than {MAX}"));
    }
    NonZeroUsize::new(usize::try_from(n_threads).unwrap_or_default())
}
