//! The OAuth endpoints, URL by URL.

mod bad_input;
mod discovery;
mod feed;
mod introspection;
mod sockets;
mod token;
