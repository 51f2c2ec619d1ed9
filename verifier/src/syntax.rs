//! The canonical form of filters and resources (contract, section 3), and the fix for what is not.

use crate::error::SyntaxError;

/// Segments that a filter may have.
const MAX_SEGMENTS: usize = 16;
/// Bytes that a filter may have.
const MAX_FILTER_BYTES: usize = 512;
/// Characters that a literal segment of a filter may have; a `%XX` counts as one.
const MAX_LITERAL: usize = 128;

/// What a byte may be in a filter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A character of a literal that stands for itself.
    Plain,
    Slash,
    Percent,
    Wildcard,
    Refused,
}

fn class(byte: u8) -> Class {
    match byte {
        b'A'..=b'Z'
        | b'a'..=b'z'
        | b'0'..=b'9'
        | b'-'
        | b'.'
        | b'_'
        | b'~'
        | b':'
        | b'@'
        | b'=' => Class::Plain,
        b'/' => Class::Slash,
        b'%' => Class::Percent,
        b'*' | b'?' => Class::Wildcard,
        _ => Class::Refused,
    }
}

/// Whether a byte stands for itself in a literal.
pub(crate) fn is_plain(byte: u8) -> bool {
    class(byte) == Class::Plain
}

/// How far a text may go: a filter is bounded and may hold wildcards, a resource is neither.
#[derive(Clone, Copy)]
struct Limits {
    bytes: usize,
    segments: usize,
    literal: usize,
    wildcards: bool,
}

impl Limits {
    const FILTER: Self = Self {
        bytes: MAX_FILTER_BYTES,
        segments: MAX_SEGMENTS,
        literal: MAX_LITERAL,
        wildcards: true,
    };
    const RESOURCE: Self =
        Self { bytes: usize::MAX, segments: usize::MAX, literal: usize::MAX, wildcards: false };
}

pub(crate) fn check_filter(text: &str) -> Result<(), SyntaxError> {
    check(text, Limits::FILTER)
}

pub(crate) fn check_resource(text: &str) -> Result<(), SyntaxError> {
    check(text, Limits::RESOURCE)
}

fn check(text: &str, limits: Limits) -> Result<(), SyntaxError> {
    if text.len() > limits.bytes {
        return Err(SyntaxError::new(format!("a filter has at most {MAX_FILTER_BYTES} bytes")));
    }
    let mut rest = text.as_bytes();
    let mut segments = 0;
    loop {
        let end = segment_length(rest, limits)?;
        let (segment, after) = rest.split_at(end);
        segments += 1;
        check_segment(segment, after.is_empty(), text)?;
        let [_slash, after @ ..] = after else { break };
        rest = after;
    }
    if segments > limits.segments {
        return Err(SyntaxError::new(format!("a filter has at most {MAX_SEGMENTS} segments")));
    }
    Ok(())
}

/// The bytes up to the next slash, each of them allowed.
fn segment_length(rest: &[u8], limits: Limits) -> Result<usize, SyntaxError> {
    let (mut at, mut characters) = (0, 0);
    while let Some(byte) = rest.get(at) {
        match class(*byte) {
            Class::Plain => at += 1,
            Class::Wildcard if limits.wildcards => at += 1,
            Class::Slash => break,
            Class::Percent => at += escape_length(rest.split_at(at).1)?,
            Class::Wildcard | Class::Refused => return Err(refused_character(rest, at)),
        }
        characters += 1;
    }
    if characters > limits.literal {
        return Err(SyntaxError::new(format!("a segment has at most {MAX_LITERAL} characters")));
    }
    Ok(at)
}

fn check_segment(segment: &[u8], is_last: bool, text: &str) -> Result<(), SyntaxError> {
    match segment {
        [] => Err(empty_segment(text)),
        b"." | b".." => Err(SyntaxError::new("`.` and `..` are no segments: write the path out")),
        b"*" => Ok(()),
        b"?" if is_last => Ok(()),
        b"?" => Err(SyntaxError::new("`?` stands only as the last segment: write `*` here")),
        b"**" => Err(SyntaxError::new("`**` is not known: a last `*` reaches every depth")),
        _ if segment.contains(&b'*') || segment.contains(&b'?') => {
            Err(SyntaxError::new("a wildcard stands for a whole segment, never for a part of one"))
        }
        _ => Ok(()),
    }
}

fn empty_segment(text: &str) -> SyntaxError {
    SyntaxError::new(match text {
        "" => "a filter needs a segment: write `*` for every resource",
        _ if text.starts_with('/') => "a filter does not start with `/`: leave it out",
        _ if text.ends_with('/') => "a filter does not end with `/`: leave it out, or write `/*`",
        _ => "`//` is refused: write one `/`",
    })
}

fn escape_length(rest: &[u8]) -> Result<usize, SyntaxError> {
    let [_, high @ (b'0'..=b'9' | b'A'..=b'F' | b'a'..=b'f'), low, ..] = rest else {
        return Err(SyntaxError::new("`%` needs two hexadecimal digits: write a `%` as `%25`"));
    };
    let digit =
        |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (Some(high_value), Some(low_value)) = (digit(high), digit(low)) else {
        return Err(SyntaxError::new("`%` needs two hexadecimal digits: write a `%` as `%25`"));
    };
    let (high_char, low_char) = (char::from(*high), char::from(*low));
    if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
        let fix = format!("{high_char}{low_char}").to_uppercase();
        return Err(SyntaxError::new(format!(
            "`%{high_char}{low_char}` is not canonical: write `%{fix}`"
        )));
    }
    let byte = high_value << 4 | low_value;
    if class(byte) == Class::Plain {
        return Err(SyntaxError::new(format!(
            "`%{high_char}{low_char}` is not canonical: write `{}`",
            char::from(byte)
        )));
    }
    Ok(3)
}

fn refused_character(rest: &[u8], at: usize) -> SyntaxError {
    let tail = String::from_utf8_lossy(rest.split_at(at).1);
    let Some(character) = tail.chars().next() else {
        return SyntaxError::new("a character is not allowed here");
    };
    let mut fix = String::new();
    for byte in character.to_string().bytes() {
        push_escape(&mut fix, byte);
    }
    SyntaxError::new(format!("{character:?} is not allowed in a filter: write `{fix}`"))
}

/// Appends a byte as `%XX`.
pub(crate) fn push_escape(text: &mut String, byte: u8) {
    text.push('%');
    text.push(hex_digit(byte >> 4));
    text.push(hex_digit(byte & 0xF));
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}
