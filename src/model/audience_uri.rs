//! The URI of an audience, in the one spelling that it has: texts are compared byte by byte, here and
//! by every verifier, and two that mean one place must not be two audiences.
//!
//! What is not canonical (RFC 3986, section 6.2) is refused with the fix named, never rewritten.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::installation::Issuer;

/// The URI of an audience: absolute, without fragment (RFC 8707, section 2), printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub struct AudienceUri(Box<str>);

/// Bytes that the URI of an audience may have: it stands in every token.
const MAX_URI_BYTES: usize = 256;

impl AudienceUri {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that was taken when it was registered, whatever is asked of new ones.
    pub fn stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The audience of the management API of an issuer.
    pub fn management(issuer: &Issuer) -> Self {
        Self(format!("{issuer}/v1").into())
    }

    /// Whether the URI is the issuer or below it: there the tokens of tenmint itself are used. An
    /// issuer may say the port that is the default, an audience never does.
    pub fn is_within(&self, issuer: &Issuer) -> bool {
        let issuer = issuer.as_str();
        let plain = DEFAULT_PORTS.iter().find_map(|(scheme, port)| {
            let rest = issuer.strip_prefix(scheme)?.strip_prefix("://")?;
            let host = rest.strip_suffix(port)?.strip_suffix(':')?;
            issuer.get(..scheme.len() + "://".len() + host.len())
        });
        let below = |origin: &str| {
            let rest = self.0.strip_prefix(origin);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        };
        below(issuer) || plain.is_some_and(below)
    }
}

impl fmt::Display for AudienceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The ports that a scheme has where none is said.
const DEFAULT_PORTS: [(&str, &str); 2] = [("https", "443"), ("http", "80")];

/// A text that is no URI of an audience, and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidAudienceUri(String);

impl fmt::Display for InvalidAudienceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidAudienceUri {}

fn wrong(fix: impl Into<String>) -> InvalidAudienceUri {
    InvalidAudienceUri(fix.into())
}

fn malformed() -> InvalidAudienceUri {
    wrong(format!(
        "an audience is an absolute URI without fragment, like `https://api.example.com`, of at \
         most {MAX_URI_BYTES} characters"
    ))
}

type Checked = Result<(), InvalidAudienceUri>;

impl FromStr for AudienceUri {
    type Err = InvalidAudienceUri;

    fn from_str(text: &str) -> Result<Self, InvalidAudienceUri> {
        let (scheme, rest) = text.split_once(':').ok_or_else(malformed)?;
        let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        // the characters of RFC 3986
        let rest_ok = rest
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%#".contains(&byte));
        if !scheme_ok || !rest_ok || rest.is_empty() || text.len() > MAX_URI_BYTES {
            return Err(malformed());
        }
        if rest.contains('#') {
            return Err(wrong("leave the fragment out: an audience has none"));
        }
        if scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong("write the scheme in lower case"));
        }
        check_escapes(rest)?;
        if let Some(place) = rest.strip_prefix("//") {
            check_place(scheme, place)?;
        }
        Ok(Self(text.into()))
    }
}

/// `%` stands before two hex digits, in upper case, and for what has no character of its own.
fn check_escapes(text: &str) -> Checked {
    for escaped in text.split('%').skip(1) {
        let digits = escaped.get(..2).unwrap_or_default();
        let Some(byte) = Some(digits)
            .filter(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        else {
            return Err(wrong("a `%` stands before two hex digits"));
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            let character = char::from(byte);
            return Err(wrong(format!("write `{character}` as it is, not as `%{digits}`")));
        }
        if digits.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let fix = digits.to_ascii_uppercase();
            return Err(wrong(format!("write `%{digits}` in upper case: `%{fix}`")));
        }
    }
    Ok(())
}

/// What stands behind `//`: a host, a port, a path and a query.
fn check_place(scheme: &str, place: &str) -> Checked {
    let (authority, rest) = place.split_at(place.find(['/', '?']).unwrap_or(place.len()));
    if authority.contains('@') {
        return Err(wrong("leave `user@` out: whoever is meant, the API is the same"));
    }
    // the colons of an IPv6 address stand in brackets
    let end_of_host = authority.rfind(']').map_or(0, |end| end + 1);
    let at = authority.get(end_of_host..).and_then(|rest| rest.find(':'));
    let (host, port) = authority.split_at(at.map_or(authority.len(), |at| end_of_host + at));
    check_host(host)?;
    if let Some(port) = port.strip_prefix(':') {
        check_port(scheme, port)?;
    }
    let path = rest.split('?').next().unwrap_or_default();
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(wrong("`.` and `..` are no segments of a path: write the path that is meant"));
    }
    Ok(())
}

fn check_host(host: &str) -> Checked {
    if host.is_empty() {
        return Err(malformed());
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong("write the host in lower case"));
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().map_err(|_| malformed())?;
        let same = host.strip_prefix('[') == Some(&format!("{address}]"));
        return if same { Ok(()) } else { Err(wrong(format!("write the host as `[{address}]`"))) };
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err(wrong("write the host in letters, digits, `-` and `.`"));
    }
    if host.ends_with('.') {
        return Err(wrong("leave the `.` at the end of the host out"));
    }
    // what a client takes for an address, as `127.1` and `0x7f.1`
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with("0x") || last.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(wrong("an IPv4 address is four numbers from 0 to 255, like `192.0.2.1`"));
    }
    Ok(())
}

fn check_port(scheme: &str, port: &str) -> Checked {
    if port.is_empty() {
        return Err(wrong("name a port or leave the `:` out"));
    }
    let number = port.parse::<u16>().map_or_else(|_| String::new(), |number| number.to_string());
    if number != port || port == "0" {
        return Err(wrong("write the port as a number from 1 to 65535"));
    }
    if DEFAULT_PORTS.contains(&(scheme, port)) {
        return Err(wrong(format!("leave the port out: {port} is that of `{scheme}`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_an_absolute_uri() {
        for text in [
            "https://api.example.com",
            "urn:default:api",
            "urn:Default:API",
            "https://a:8443/v1?x=%20",
            "https://a/b.c/..d/e...?../f",
            "http://[2001:db8::1]:8080/",
            "http://a:443",
            "x://a.1b",
        ] {
            assert!(text.parse::<AudienceUri>().is_ok(), "{text}");
        }
        let too_long = format!("urn:{}", "x".repeat(MAX_URI_BYTES));
        for text in
            ["", "api", "https://", "https:///x", ":x", "9a:b", "a:b c", "a:\"", "a:", &too_long]
        {
            let cause = text.parse::<AudienceUri>().unwrap_err().to_string();
            assert!(cause.contains("an absolute URI"), "{text}: {cause}");
        }
    }

    #[test]
    fn a_uri_has_one_spelling() {
        for text in [
            "HTTPS://a",
            "https://A",
            "https://a:443",
            "http://a:80",
            "https://a:",
            "https://a:0",
            "https://a:+8443",
            "https://a:65536",
            "https://a:1:2",
            "https://u@a",
            "https://u:p@a",
            "https://@a",
            "https://a.",
            "https://a.b.",
            "https://1.2.3",
            "https://0x7f.0x1",
            "https://010.0.0.1",
            "https://[::A]",
            "https://[0::1]",
            "https://[::1",
            "https://::1",
            "https://a%62",
            "https://a/%62",
            "https://a/%e9",
            "https://a/%",
            "https://a/%2",
            "https://a/./b",
            "https://a/..",
            "https://a/%2E/b",
            "https://a/b#",
            "urn:a#b",
            "urn:%zz",
            "https://[v1.x]",
            "https://a[b]",
        ] {
            assert!(text.parse::<AudienceUri>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_issuer_and_what_is_below_it_is_told_apart_from_its_neighbours() {
        for issuer in ["https://auth.example.com", "https://auth.example.com:443"] {
            let issuer: Issuer = issuer.parse().unwrap();
            let within = |text: &str| text.parse::<AudienceUri>().unwrap().is_within(&issuer);
            assert!(within("https://auth.example.com"));
            assert!(within("https://auth.example.com/v1"));
            assert!(within("https://auth.example.com?x"));
            assert!(!within("https://auth.example.com.evil.example"));
            assert!(!within("https://auth.example.com:8443/v1"));
            assert!(!within("http://auth.example.com/v1"));
            assert!(!within("https://api.example.com"));
            assert!(AudienceUri::management(&issuer).is_within(&issuer));
        }
    }
}
