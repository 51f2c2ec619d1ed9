//! The OAuth endpoints, URL by URL.

mod bad_input;
mod discovery;
mod sockets;
mod token;
