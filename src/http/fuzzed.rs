//! Any bytes as lines of a forwarding header, of which a first byte `f` says that it is `Forwarded`. Fed
//! by the fuzzers of `fuzz/`, and on a stable compiler by the test below.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a promise that does not hold ends the run"
)]

use std::net::IpAddr;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use crate::http::client_ip::TrustedProxies;
use crate::model::ip_range::canonical;

/// Reads the lines, and holds them to the promise that what a trusted proxy appends decides, whatever
/// stands before it.
pub fn check(data: &[u8]) {
    let (name, element) = match data {
        [b'f', ..] => ("forwarded", "for="),
        _ => ("x-forwarded-for", ""),
    };
    let proxies = TrustedProxies::parse(&["10.0.0.0/8".to_owned()], name).unwrap();
    let name = HeaderName::from_static(name);
    let lines = data.get(1..).unwrap_or_default().split(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = lines.filter(|line| HeaderValue::from_bytes(line).is_ok()).collect();
    let told = |peer: &str, lines: &[&[u8]]| {
        let value = |line: &&[u8]| (name.clone(), HeaderValue::from_bytes(line).unwrap());
        proxies.caller(address(peer), &lines.iter().map(value).collect::<Lines>().0)
    };
    let stranger = "198.51.100.7";
    assert_eq!(told(stranger, &lines), Some(address(stranger)), "nobody believes a stranger");
    let claimed = told("10.0.0.1", &lines);
    assert!(claimed.is_none_or(|claimed| canonical(claimed) == claimed));
    let (start, last) = lines.split_at(lines.len().saturating_sub(1));
    let appended =
        |hop: &str| [last.concat().as_slice(), format!(", {element}{hop}").as_bytes()].concat();
    let (seen, hidden) = (appended("192.0.2.7"), appended("unknown"));
    let more = format!("{element}10.0.0.2");
    let with = |line| [start, &[line]].concat();
    assert_eq!(told("10.0.0.1", &with(&seen)), Some(address("192.0.2.7")));
    assert_eq!(told("10.0.0.1", &with(&hidden)), None);
    let two = [start, &[&seen, more.as_bytes()]].concat();
    assert_eq!(told("10.0.0.1", &two), Some(address("192.0.2.7")), "by two proxies, on two lines");
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Header lines in their order, those of one name too.
struct Lines(HeaderMap);

impl FromIterator<(HeaderName, HeaderValue)> for Lines {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: I) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value);
        }
        Self(headers)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_hold_against_their_oracle() {
        crate::replay::replay("addresses", 10_000, super::check);
    }
}
