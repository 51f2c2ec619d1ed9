//! `GET /metrics`: what a node did and how it stands, in the text format of Prometheus.
//!
//! Told at a listener of its own, and never where tokens are issued. Requests only count; whatever
//! takes time is done by whoever looks, and nothing here asks the database.

mod node;
mod process;
mod requests;
mod text;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::http::metrics::text::{MEDIA_TYPE, Page, as_f64};
use crate::http::traces::Traces;
use crate::http::{App, error};
use crate::service::follow::Follower;
use crate::service::node::Node;

pub use requests::Requests;
pub(super) use requests::{Connected, Counting, Flight};

/// What there is to tell of.
#[derive(Debug)]
pub(super) struct Observed {
    app: Arc<App>,
    follower: Arc<Follower>,
}

impl Observed {
    pub(super) fn of(node: &Node, app: Arc<App>) -> Arc<Self> {
        Arc::new(Self { app, follower: node.follower.clone() })
    }

    /// All figures of this moment.
    fn tell(&self) -> String {
        let mut page = Page::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("tenmint_build_info", "1, with the version that runs").sample(&version, 1.0);
        self.app.requests.tell(&mut page);
        self.tell_of_node(&mut page);
        self.tell_of_traces(&mut page);
        process::tell(&mut page);
        page.into_text()
    }

    fn tell_of_traces(&self, page: &mut Page) {
        let told =
            |figure: fn(&Traces) -> u64| as_f64(self.app.traces.as_deref().map_or(0, figure));
        let help =
            "spans of requests, by what became of them: `sent` to the collector, or `dropped`";
        let mut spans = page.counters("tenmint_trace_spans_total", help);
        spans.sample(&[("outcome", "sent")], told(Traces::sent));
        spans.sample(&[("outcome", "dropped")], told(Traces::dropped));
    }
}

pub(super) async fn show(State(observed): State<Arc<Observed>>) -> Response<Body> {
    // files are read and locks waited for: not in the way of requests
    let told = tokio::task::spawn_blocking(move || observed.tell()).await;
    let Ok(text) = told else { return error::internal("/metrics") };
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
