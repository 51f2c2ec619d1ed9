//! The trace that a request came with: `traceparent` and `tracestate` (W3C Trace Context).
//!
//! What is malformed is ignored, as if it had not come, and the request begins a trace of its own.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::model::secret::masked;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Characters of a `tracestate` that is handed on; the standard asks for no more.
const MAX_STATE: usize = 512;

/// The span of a caller, which the span of its request belongs under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    /// Whether the caller tells of it.
    pub(super) is_sampled: bool,
    /// What tracing systems on the way wrote beside it.
    pub(super) state: Option<String>,
}

impl Parent {
    /// The one that these headers name.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(TRACEPARENT).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let parent = Self::parse(line.to_str().ok()?)?;
        Some(Self { state: state_of(headers), ..parent })
    }

    /// `VERSION-TRACE-SPAN-FLAGS` in lower-case hex. A later version may add more behind it.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let (version, trace_id) = (hex(parts.next()?, 2)?, hex(parts.next()?, 32)?);
        let (span_id, flags) = (hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        let is_known = version != 0xff && (version != 0 || parts.next().is_none());
        let is_valid = is_known && trace_id != 0 && span_id != 0;
        let (span_id, is_sampled) = (u64::try_from(span_id).ok()?, flags & 1 == 1);
        is_valid.then_some(Self { trace_id, span_id, is_sampled, state: None })
    }
}

/// So many digits of lower-case hex.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == digits && is_hex).then(|| u128::from_str_radix(text, 16).ok())?
}

/// What tracing systems wrote. It is the one text of a caller that leaves with a span, so that one in which
/// anything looks secret is left out.
fn state_of(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
    let state = lines.collect::<Result<Vec<_>, _>>().ok()?.join(",");
    let is_told = !state.is_empty()
        && state.len() <= MAX_STATE
        && state.split(',').all(|member| is_member(member.trim_matches([' ', '\t'])))
        && masked(&state) == state;
    is_told.then_some(state)
}

/// `KEY=VALUE`, or nothing.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return member.is_empty() };
    let in_key =
        |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    !key.is_empty() && key.bytes().all(in_key) && !value.is_empty() && !value.contains('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parent(lines: &[(HeaderName, &'static str)]) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        Parent::of(&headers)
    }

    #[test]
    fn a_parent_is_four_fields_of_lower_case_hex_and_of_a_later_version_more() {
        let later =
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future-will-be";
        for (text, is_sampled) in [
            (PARENT, true),
            (later, true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02", false),
        ] {
            let told = parent(&[(TRACEPARENT, text)]).unwrap();
            assert_eq!(told.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
            assert_eq!(
                (told.span_id, told.is_sampled),
                (0xb7ad_6b71_6920_3331, is_sampled),
                "{text}"
            );
        }
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parent(&[(TRACEPARENT, text)]), None, "{text}");
        }
        assert_eq!(
            parent(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)]),
            None,
            "which of the two?"
        );
        assert_eq!(parent(&[(TRACESTATE, "a=1")]), None);
    }

    #[test]
    fn a_state_is_handed_on_unless_it_is_malformed_or_looks_secret() {
        let state = |lines: &[&'static str]| {
            let lines = lines.iter().map(|line| (TRACESTATE, *line));
            let lines: Vec<_> = [(TRACEPARENT, PARENT)].into_iter().chain(lines).collect();
            parent(&lines).unwrap().state
        };
        assert_eq!(state(&["rojo=00f067aa0ba902b7"]).unwrap(), "rojo=00f067aa0ba902b7");
        assert_eq!(state(&["dd=s:1;t.dm:-4, ", "a@b=c d"]).unwrap(), "dd=s:1;t.dm:-4, ,a@b=c d");
        let secret =
            "a=tm_default_0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq012345";
        for text in ["", "a", "=1", "a=", "a=1=2", "A=1", "a=1;b", secret] {
            let is_told = state(&[text]).is_some();
            assert_eq!(is_told, text == "a=1;b", "{text}");
        }
        assert_eq!(state(&[String::leak(format!("a={}", "b ".repeat(256)))]), None, "too long");
    }
}
