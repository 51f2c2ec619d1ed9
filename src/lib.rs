//! tenmint: an API key in, a ten-minute token out.
//!
//! The rooms of this house stand on floors, and each uses only the floors below it:
//! [`model`] (nouns), [`store`] (SQL) and [`mint`] (the hot path), [`service`] (use cases),
//! [`http`] and [`cli`] (faces). `docs/architecture.md` tells the story.

pub mod cli;
pub mod clock;
pub mod error;
pub mod figures;
pub mod http;
pub mod mint;
pub mod model;
#[cfg(test)]
#[path = "../fuzz/replay.rs"]
mod replay;
pub mod service;
pub mod store;
