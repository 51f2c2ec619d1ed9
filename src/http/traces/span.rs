//! The span of one request: begun when its head is there, over when its answer begins.

use std::time::Duration;

use axum::body::Body;
use http::{Response, StatusCode};

use crate::http::Reason;
use crate::http::traces::Traces;
use crate::http::traces::context::Parent;
use crate::service::random;

/// What is known of a request when it comes.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct RequestFacts<'r> {
    /// Its id.
    pub(in crate::http) id: &'r str,
    /// What the log calls its method.
    pub(in crate::http) method: &'static str,
    /// What the log calls its path.
    pub(in crate::http) route: &'static str,
    /// `http` or `https`, as it came to this node.
    pub(in crate::http) scheme: &'static str,
}

/// A part of a request, beside its answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Step {
    /// What was done.
    pub(in crate::http) name: &'static str,
    /// Nanoseconds since 1970.
    pub(in crate::http) began_at: u64,
    /// Nanoseconds since 1970.
    pub(in crate::http) ended_at: u64,
}

/// What is told of a request.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    pub(super) parent: Option<Parent>,
    pub(super) request_id: String,
    pub(super) method: &'static str,
    pub(super) route: &'static str,
    pub(super) scheme: &'static str,
    /// `None` where the connection ended before there was an answer.
    pub(super) status: Option<StatusCode>,
    /// Why it was refused.
    pub(super) reason: Option<&'static str>,
    /// A part of it, and the id of its span.
    pub(super) step: Option<(Step, u64)>,
    /// Nanoseconds since 1970.
    pub(super) began_at: u64,
    pub(super) ended_at: u64,
}

impl Record {
    pub(super) fn of(
        request: RequestFacts<'_>,
        (trace_id, span_id, parent): (u128, u64, Option<Parent>),
        began_at: u64,
    ) -> Self {
        let RequestFacts { id, method, route, scheme } = request;
        Self {
            trace_id,
            span_id,
            parent,
            request_id: id.to_owned(),
            method,
            route,
            scheme,
            status: None,
            reason: None,
            step: None,
            began_at,
            ended_at: began_at,
        }
    }
}

/// A request that is being answered, told of when it goes.
#[derive(Debug)]
pub(in crate::http) struct Span<'t> {
    pub(super) traces: &'t Traces,
    /// By the clock that is never corrected, so that no span ends before it begins.
    pub(super) began: Duration,
    /// Taken when it goes.
    pub(super) record: Option<Box<Record>>,
}

impl Span<'_> {
    /// It was answered so, and this is its route.
    pub(in crate::http) fn answered(&mut self, route: &'static str, response: &Response<Body>) {
        if let Some(record) = &mut self.record {
            record.route = route;
            record.status = Some(response.status());
            record.reason = response.extensions().get::<Reason>().map(|reason| reason.0);
            let step = response.extensions().get::<Step>().copied();
            record.step = step.and_then(|step| Some((step, u64::from_be_bytes(random().ok()?))));
        }
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let Some(mut record) = self.record.take() else { return };
        let took = self.traces.clock.steady().saturating_sub(self.began).as_nanos();
        record.ended_at = record.began_at.saturating_add(took.try_into().unwrap_or(u64::MAX));
        self.traces.take(*record);
    }
}
