//! What `deploy/` makes of the distributor: the image, as a container engine would run it.

mod image;
mod memory_group;
