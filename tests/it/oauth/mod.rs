//! The OAuth endpoints, URL by URL.

mod bad_input;
pub(crate) mod behind;
mod discovery;
pub(crate) mod failures;
mod feed;
mod introspection;
mod sockets;
mod token;

use crate::server::{Answer, Key, Server, basic};

/// What an endpoint answers to a form, sent with an API key by Basic.
pub(crate) async fn post_form(server: &Server, path: &str, key: &Key, form: &str) -> Answer {
    let credential = basic(&key.id.to_string(), &key.text);
    let headers = [
        ("Authorization", credential.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    server.send("POST", path, &headers, form.as_bytes()).await
}
