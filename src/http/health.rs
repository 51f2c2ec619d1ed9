//! Is the process alive, and can it issue tokens?

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use http::{Response, StatusCode};

use crate::http::{App, json_answer};

/// The database was not compared with for so long: something is wrong, though tokens still flow.
const NOTABLE_AGE: Duration = Duration::from_secs(5);

/// Alive, whatever the database does.
pub(super) async fn alive() -> Response<Body> {
    json_answer(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// Ready while tokens are issued, `degraded` where the database is out of reach meanwhile.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let now = app.clock.now();
    let age = app.mint.index().age(now);
    if !app.mint.is_ready(now) {
        return json_answer(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"not_ready"}"#);
    }
    if age.is_none_or(|age| age > NOTABLE_AGE) {
        return json_answer(StatusCode::OK, r#"{"status":"degraded"}"#);
    }
    json_answer(StatusCode::OK, r#"{"status":"ready"}"#)
}
