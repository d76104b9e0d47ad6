//! WebSockets: a request that the gate let in becomes a [`socket`], and a task of its own serves it
//! as long as the access lasts.
//!
//! To add one: a file here whose handler authorises (refusals are answered before the upgrade, in
//! the envelope), calls [`socket::accept`] and spawns its task; and its line in `web::routes::live`.

pub mod events;
pub mod jobs;
pub mod socket;
pub mod terminals;
pub mod utf8;
