//! The syntax of `Forwarded` (RFC 7239), strictly: a hop that two readers could read differently
//! says nothing. Whom to believe is decided in [`client_ip`](super::client_ip).

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address in a `for` of one element of `Forwarded` (RFC 7239, section 4).
pub(super) fn address_of_element(element: &[u8]) -> Option<IpAddr> {
    address_of_node(&parameter_of_element(element, "for")?)
}

/// What one element of `Forwarded` says under this name. An element that is malformed anywhere, or
/// says it twice, says nothing.
pub(super) fn parameter_of_element<'e>(element: &'e [u8], wanted: &str) -> Option<Cow<'e, str>> {
    let mut found = None;
    for pair in rsplit_unquoted(element, b';') {
        let pair = std::str::from_utf8(pair.trim_ascii()).ok()?;
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=').filter(|(name, _)| is_token(name))?;
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

/// `node` of RFC 7239, section 6, where it is an address: `192.0.2.1`, `192.0.2.1:47011`,
/// `[2001:db8::1]`, `[2001:db8::1]:47011`. `unknown` and `_hidden` are none.
pub(super) fn address_of_node(node: &str) -> Option<IpAddr> {
    let (address, port) = if let Some(inner) = node.strip_prefix('[') {
        let (address, behind) = inner.split_once(']')?;
        let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) };
        (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
    } else {
        let (address, port) = match node.split_once(':') {
            Some((address, port)) => (address, Some(port)),
            None => (node, None),
        };
        (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
    };
    port.is_none_or(is_port).then_some(address)
}

/// Up to five digits, or an obfuscated port like `_p1`.
fn is_port(text: &str) -> bool {
    let is_obfuscated = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    match text.strip_prefix('_') {
        Some(name) => is_obfuscated(name),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// `token` of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// What a token or a quoted string says (RFC 9110, section 5.6.4).
fn unquoted(value: &str) -> Option<Cow<'_, str>> {
    let Some(quoted) = value.strip_prefix('"') else {
        return is_token(value).then_some(Cow::Borrowed(value));
    };
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next()?),
            character => text.push(character),
        }
    }
    characters.as_str().is_empty().then_some(Cow::Owned(text))
}

/// The parts between separators that stand in no quoted string, from the right.
///
/// A quote that a caller opens and never closes would swallow what a proxy appends, if this read
/// from the left. What the right-most parts are depends on nothing to the left of them.
pub(super) fn rsplit_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut is_quoted = false;
    // the quote just passed, and whether the backslashes before it so far escape it
    let mut quote_is_escaped: Option<bool> = None;
    text.rsplit(move |byte| {
        if let (b'\\', Some(is_escaped)) = (*byte, quote_is_escaped) {
            quote_is_escaped = Some(!is_escaped);
            return false;
        }
        if quote_is_escaped.take() == Some(false) {
            is_quoted = !is_quoted;
        }
        if *byte == b'"' {
            quote_is_escaped = Some(false);
        }
        *byte == separator && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn well_formed_elements_are_found_whole(
            elements in vec("([a-z=]|\"([^\"\\\\]|\\\\.)*\"){1,8}", 1..6),
        ) {
            let line = elements.join(",");
            let mut found: Vec<&[u8]> = rsplit_unquoted(line.as_bytes(), b',').collect();
            found.reverse();
            let elements: Vec<&[u8]> = elements.iter().map(String::as_bytes).collect();
            prop_assert_eq!(found, elements);
        }
    }
}
