//! What a collector is told, in the JSON of OTLP 1 (`ExportTraceServiceRequest`). Attributes are those of the
//! semantic conventions for HTTP servers, and two of ours.

use serde::Serialize;
use serde_json::{Value, json};

use crate::http::NO_ROUTE;
use crate::http::traces::span::{Record, Step};

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u8 = 1;
/// `SPAN_KIND_SERVER`.
const SERVER: u8 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// Sampled, and whether a parent is of another process is told.
const FLAGS: u32 = 0x101;
/// It is.
const PARENT_IS_REMOTE: u32 = 0x200;

/// One span.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OtlpSpan<'r> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'r str>,
    flags: u32,
    name: String,
    kind: u8,
    // 64 bits are a string in the JSON of Protobuf
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Value>,
}

/// What is told of these requests by a process with this name of its own.
pub(super) fn request(instance: &str, records: &[Record]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        text("service.name", "tenmint"),
        text("service.version", version),
        text("service.instance.id", instance),
    ];
    let spans = records.iter().flat_map(|record| [Some(of_request(record)), of_step(record)]);
    let spans: Vec<OtlpSpan<'_>> = spans.flatten().collect();
    let of_scope = json!({"scope": {"name": "tenmint", "version": version}, "spans": spans});
    let of_resource = json!({"resource": {"attributes": resource}, "scopeSpans": [of_scope]});
    json!({"resourceSpans": [of_resource]}).to_string().into_bytes()
}

fn of_request(record: &Record) -> OtlpSpan<'_> {
    let parent = record.parent.as_ref();
    let is_ours = record.status.is_some_and(|status| status.is_server_error());
    OtlpSpan {
        trace_id: format!("{:032x}", record.trace_id),
        span_id: format!("{:016x}", record.span_id),
        parent_span_id: parent.map(|parent| format!("{:016x}", parent.span_id)),
        trace_state: parent.and_then(|parent| parent.state.as_deref()),
        flags: if parent.is_some() { FLAGS | PARENT_IS_REMOTE } else { FLAGS },
        name: name(record),
        kind: SERVER,
        start_time_unix_nano: record.began_at.to_string(),
        end_time_unix_nano: record.ended_at.to_string(),
        attributes: attributes(record),
        status: is_ours.then(|| json!({"code": ERROR})),
    }
}

/// The span of a part of a request, under that of the request.
fn of_step(record: &Record) -> Option<OtlpSpan<'_>> {
    let (Step { name, began_at, ended_at }, span_id) = record.step?;
    Some(OtlpSpan {
        span_id: format!("{span_id:016x}"),
        parent_span_id: Some(format!("{:016x}", record.span_id)),
        flags: FLAGS,
        name: name.to_owned(),
        kind: INTERNAL,
        start_time_unix_nano: began_at.to_string(),
        end_time_unix_nano: ended_at.to_string(),
        attributes: Vec::new(),
        status: None,
        ..of_request(record)
    })
}

/// The method and the route, each where it is one that is known.
fn name(record: &Record) -> String {
    let method = if is_known(record.method) { record.method } else { "HTTP" };
    if record.route == NO_ROUTE { method.to_owned() } else { format!("{method} {}", record.route) }
}

fn attributes(record: &Record) -> Vec<Value> {
    let method = if is_known(record.method) { record.method } else { "_OTHER" };
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.scheme", record.scheme),
        text("tenmint.request_id", &record.request_id),
    ];
    if record.route != NO_ROUTE {
        attributes.push(text("http.route", record.route));
    }
    if let Some(status) = record.status {
        let code = json!({"intValue": status.as_str()});
        attributes.push(json!({"key": "http.response.status_code", "value": code}));
        if status.is_server_error() {
            attributes.push(text("error.type", status.as_str()));
        }
    }
    attributes.extend(record.reason.map(|reason| text("tenmint.reason", reason)));
    attributes
}

/// What the log calls `(other)` has another name in each place here.
fn is_known(method: &str) -> bool {
    !method.starts_with('(')
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}
