//! Is the process alive, and can it issue tokens?

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use http::{Response, StatusCode};

use crate::http::{App, json_answer};
use crate::model::time::Timestamp;

/// The database was not compared with for so long: something is wrong, though tokens still flow.
const NOTABLE_AGE: Duration = Duration::from_secs(5);

/// A node follows the database's time, whatever its machine says. But one that is so far off is in trouble with others:
/// certificates, and whatever else goes by the clock.
const NOTABLE_OFFSET_MS: u64 = 30_000;

/// Whether a node has not heard of its database for so long that others may know more.
pub(super) fn is_behind(app: &App, now: Timestamp) -> bool {
    app.mint.index().age(now).is_none_or(|age| age > NOTABLE_AGE)
}

/// Alive, whatever the database does.
pub(super) async fn alive() -> Response<Body> {
    json_answer(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// Whether records of tokens wait here for a database that does not take them, or did not a moment ago.
fn is_spooling(app: &App) -> bool {
    app.spool().is_some_and(|spool| !spool.is_empty())
}

/// Ready while tokens are issued, `degraded` where the database is out of reach meanwhile or does not take their
/// records, or the clock of this machine is far off its time.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let now = app.clock.now();
    if !app.mint.is_ready(now) {
        return json_answer(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"not_ready"}"#);
    }
    let is_clock_off = app.clock.ahead_of_machine().unsigned_abs() > NOTABLE_OFFSET_MS;
    if is_behind(&app, now) || is_spooling(&app) || is_clock_off {
        return json_answer(StatusCode::OK, r#"{"status":"degraded"}"#);
    }
    json_answer(StatusCode::OK, r#"{"status":"ready"}"#)
}
