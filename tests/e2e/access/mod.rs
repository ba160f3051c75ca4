//! How the distributor gets in: tokens, OAuth, certificates, secrets in files.

mod api_token;
mod certificates;
mod nats;
mod oauth;
mod oauth_faults;
mod provider;
mod proxies;
mod rig;
mod secrets;
