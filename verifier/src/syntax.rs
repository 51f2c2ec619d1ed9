//! The canonical form of filters and resources (docs/scopes.md, "Grammar"), and the fix for what is not.

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

const fn class(byte: u8) -> Class {
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

/// Whether a byte stands for itself in a literal: one bit a byte, because every byte of every scope
/// is asked.
pub(crate) fn is_plain(byte: u8) -> bool {
    const PLAIN: u128 = {
        let (mut bits, mut byte) = (0, 0);
        while byte < 128 {
            if matches!(class(byte), Class::Plain) {
                bits |= 1 << byte;
            }
            byte += 1;
        }
        bits
    };
    byte < 128 && PLAIN >> byte & 1 == 1
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
        let (segment, after) = split_segment(rest, limits)?;
        segments += 1;
        match segment {
            Segment::Literal([]) => return Err(empty_segment(text)),
            Segment::Literal(literal) => check_literal(literal)?,
            Segment::Wild(segment) => check_wildcard(segment, after.is_empty())?,
        }
        let [_slash, after @ ..] = after else { break };
        rest = after;
    }
    if segments > limits.segments {
        return Err(SyntaxError::new(format!("a filter has at most {MAX_SEGMENTS} segments")));
    }
    Ok(())
}

enum Segment<'t> {
    Literal(&'t [u8]),
    /// There is a wildcard in it, alone or not.
    Wild(&'t [u8]),
}

/// The bytes up to the next slash, each of them allowed, and what is left.
fn split_segment(rest: &[u8], limits: Limits) -> Result<(Segment<'_>, &[u8]), SyntaxError> {
    let (mut at, mut characters, mut is_wild) = (0, 0, false);
    loop {
        // nearly all bytes are plain, so they are passed over in a loop of their own
        let plain = rest.iter().skip(at).take_while(|byte| is_plain(**byte)).count();
        at += plain;
        characters += plain;
        match rest.get(at).map(|byte| class(*byte)) {
            None | Some(Class::Slash) => break,
            Some(Class::Wildcard) if limits.wildcards => {
                is_wild = true;
                at += 1;
            }
            Some(Class::Percent) => at += escape_length(rest.split_at(at).1)?,
            Some(_) => return Err(refused_character(rest, at)),
        }
        characters += 1;
    }
    if characters > limits.literal {
        return Err(SyntaxError::new(format!("a segment has at most {MAX_LITERAL} characters")));
    }
    let (segment, after) = rest.split_at(at);
    Ok((if is_wild { Segment::Wild(segment) } else { Segment::Literal(segment) }, after))
}

fn check_literal(segment: &[u8]) -> Result<(), SyntaxError> {
    match segment {
        b"." | b".." => Err(SyntaxError::new("`.` and `..` are no segments: write the path out")),
        _ => Ok(()),
    }
}

fn check_wildcard(segment: &[u8], is_last: bool) -> Result<(), SyntaxError> {
    match segment {
        b"*" => Ok(()),
        b"?" if is_last => Ok(()),
        b"?" => Err(SyntaxError::new("`?` stands only as the last segment: write `*` here")),
        b"**" => Err(SyntaxError::new("`**` is not known: a last `*` reaches every depth")),
        _ => {
            Err(SyntaxError::new("a wildcard stands for a whole segment, never for a part of one"))
        }
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
