//! Plugins that are replaced while events flow: what takes effect and when, what is refused, and how to go back.

mod bad_updates;
mod control;
mod load;
mod refusals;
mod restarts;
mod rig;
mod rollback;
mod state;
mod under_load;
mod watching;
