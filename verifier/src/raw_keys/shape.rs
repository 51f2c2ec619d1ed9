//! The form of an API key of tenmint: `<prefix>_<label>_<id><secret><check>`.

/// Characters of id, secret and check.
const BODY: usize = 16 + 43 + CHECK;
/// Characters of the check: a CRC-32 in base62.
const CHECK: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A key of some installation of tenmint. Which prefix it uses is its own affair.
    Ours,
    /// One with a typo.
    Mistyped,
    /// Something else.
    Foreign,
}

impl Shape {
    pub(super) fn of(text: &str) -> Self {
        let mut parts = text.splitn(3, '_');
        let (Some(prefix), Some(label), Some(body)) = (parts.next(), parts.next(), parts.next())
        else {
            return Self::Foreign;
        };
        let is_prefix = (2..=12).contains(&prefix.len())
            && prefix.bytes().all(|byte| byte.is_ascii_lowercase());
        let is_of_label =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_label = (1..=40).contains(&label.len()) && label.bytes().all(is_of_label);
        let is_body = body.len() == BODY && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match is_prefix && is_label && is_body {
            true if check_holds(text) => Self::Ours,
            true => Self::Mistyped,
            false => Self::Foreign,
        }
    }
}

/// Whether the last characters are the CRC-32 of all before them.
fn check_holds(text: &str) -> bool {
    let Some((before, check)) = text.split_at_checked(text.len() - CHECK) else { return false };
    let mut number = crc32fast::hash(before.as_bytes());
    check.bytes().rev().all(|digit| {
        let rest = usize::try_from(number % 62).unwrap_or_default();
        number /= 62;
        BASE62.get(rest) == Some(&digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the server, of an id and a secret of sevens and nines.
    fn key(label: &str) -> String {
        let before = format!("tm_{label}_{}{}", "7".repeat(16), "9".repeat(43));
        let mut number = crc32fast::hash(before.as_bytes());
        let mut check = Vec::new();
        for _ in 0..CHECK {
            check.insert(0, BASE62[number as usize % 62]);
            number /= 62;
        }
        before + std::str::from_utf8(&check).unwrap()
    }

    #[test]
    fn a_key_of_ours_is_known_by_its_form_and_a_typo_in_it_is_seen() {
        let text = key("default");
        assert_eq!(Shape::of(&text), Shape::Ours);
        for at in text.len() - BODY..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let mistyped = String::from_utf8(bytes).unwrap();
            assert_eq!(Shape::of(&mistyped), Shape::Mistyped, "at {at}");
        }
    }

    #[test]
    fn what_has_another_form_is_foreign() {
        let text = key("default");
        for foreign in [
            "",
            "_",
            "__",
            "sk_live_51HCOXXAaYYbbiuYYuu990011",
            "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.replace("tm_", "TM_"),
            &text.replace("default", "De"),
            &text.replace("default", &"a".repeat(41)),
            &text.replace('9', "\u{e9}"),
        ] {
            assert_eq!(Shape::of(foreign), Shape::Foreign, "{foreign}");
        }
    }
}
