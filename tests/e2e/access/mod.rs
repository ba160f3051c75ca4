//! How the distributor gets in: tokens, OAuth, certificates, secrets in files.

mod oauth;
mod oauth_faults;
mod rig;
