//! Resources and the filters that select them.
//!
//! A [`Resource`] names one thing (`projects/alpha`), a [`ResourceFilter`] a set of them
//! (`projects/alpha/*`). Both are canonical text: what parses has exactly one spelling, so that
//! comparing bytes, segment by segment, is exact. Nothing here is ever decoded or repaired.

use std::fmt;
use std::str::FromStr;

use crate::error::SyntaxError;

/// Segments that a filter may have.
const MAX_SEGMENTS: usize = 16;
/// Bytes that a filter may have.
const MAX_FILTER_BYTES: usize = 512;
/// Characters that a literal segment of a filter may have; a `%XX` counts as one.
const MAX_LITERAL: usize = 128;

/// A set of resources, written as a path that may hold wildcards.
///
/// | Written | Covers | Does not cover |
/// |---|---|---|
/// | `projects/alpha` | exactly that resource | anything below it |
/// | `projects/alpha/*` | everything below it | `projects/alpha`, `projects/alphabet/x` |
/// | `projects/*/logs` | exactly one segment there | `projects/a/b/logs` |
/// | `projects/?` | each project | what is in it |
/// | `*` | every resource of the organization | another organization |
///
/// ```
/// use tenmint_verifier::{Resource, ResourceFilter};
///
/// let filter: ResourceFilter = "projects/alpha/*".parse()?;
/// assert!(filter.matches(&Resource::new(["projects", "alpha", "logs"])?));
/// assert!(!filter.matches(&Resource::new(["projects", "alphabet", "logs"])?));
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceFilter {
    text: Box<str>,
}

impl ResourceFilter {
    /// The filter `*`: every resource of the organization.
    ///
    /// ```
    /// use tenmint_verifier::ResourceFilter;
    /// assert_eq!(ResourceFilter::all().as_str(), "*");
    /// ```
    pub fn all() -> Self {
        Self { text: "*".into() }
    }

    /// The text, as it was written.
    ///
    /// ```
    /// use tenmint_verifier::ResourceFilter;
    /// let filter: ResourceFilter = "projects/?".parse()?;
    /// assert_eq!(filter.as_str(), "projects/?");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the filter selects this resource.
    ///
    /// ```
    /// use tenmint_verifier::{Resource, ResourceFilter};
    /// let filter: ResourceFilter = "projects/*/logs".parse()?;
    /// assert!(filter.matches(&Resource::new(["projects", "a", "logs"])?));
    /// assert!(!filter.matches(&Resource::new(["projects", "a", "b", "logs"])?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn matches(&self, resource: &Resource) -> bool {
        text_covers(&self.text, &resource.text)
    }

    /// Whether every resource of `narrow` is one of this filter's. Exact.
    ///
    /// ```
    /// use tenmint_verifier::ResourceFilter;
    /// let wide: ResourceFilter = "projects/*".parse()?;
    /// assert!(wide.covers(&"projects/alpha/*".parse()?));
    /// assert!(!wide.covers(&"*".parse()?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn covers(&self, narrow: &ResourceFilter) -> bool {
        text_covers(&self.text, &narrow.text)
    }

    /// The resources that both filters select, which is always one filter or nothing.
    ///
    /// The result can be longer than the 512 bytes that a written filter may have.
    ///
    /// ```
    /// use tenmint_verifier::ResourceFilter;
    /// let a: ResourceFilter = "projects/*/logs".parse()?;
    /// let b: ResourceFilter = "projects/alpha/*".parse()?;
    /// assert_eq!(a.intersect(&b).unwrap().as_str(), "projects/alpha/logs");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn intersect(&self, other: &ResourceFilter) -> Option<ResourceFilter> {
        intersect(&self.text, &other.text).map(|text| Self { text: text.into() })
    }
}

impl FromStr for ResourceFilter {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        check_filter(text)?;
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for ResourceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ResourceFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceFilter({})", self.text)
    }
}

/// One thing that an API guards, as a path of encoded segments.
///
/// Build it from raw segments with [`Resource::new`]. Never cut it out of a URL path, where `%2F`,
/// `..` and `//` mean one thing to a router and another to a filter.
///
/// ```
/// use tenmint_verifier::Resource;
///
/// let file = Resource::new(["files", "a b/c.txt"])?;
/// assert_eq!(file.as_str(), "files/a%20b%2Fc.txt");
/// assert!(Resource::new(["files", ".."]).is_err());
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    text: Box<str>,
}

impl Resource {
    /// A resource of these raw segments, each encoded.
    ///
    /// A resource may be longer than any filter: wildcards reach it all the same.
    ///
    /// # Errors
    /// No segment at all, an empty one, `.` or `..`.
    ///
    /// ```
    /// use tenmint_verifier::Resource;
    /// assert_eq!(Resource::new(["projects", "alpha"])?.as_str(), "projects/alpha");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn new<I>(segments: I) -> Result<Self, SyntaxError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut text = String::new();
        for segment in segments {
            if !text.is_empty() {
                text.push('/');
            }
            push_encoded(&mut text, segment.as_ref())?;
        }
        if text.is_empty() {
            return Err(SyntaxError::new("a resource needs a segment"));
        }
        Ok(Self { text: text.into() })
    }

    /// The canonical text.
    ///
    /// ```
    /// use tenmint_verifier::Resource;
    /// assert_eq!(Resource::new(["a", "b c"])?.as_str(), "a/b%20c");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter that selects exactly this resource, where it is short enough to be written.
    ///
    /// ```
    /// use tenmint_verifier::Resource;
    /// assert_eq!(Resource::new(["a", "b"])?.to_filter()?.as_str(), "a/b");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn to_filter(&self) -> Result<ResourceFilter, SyntaxError> {
        self.text.parse()
    }
}

impl FromStr for Resource {
    type Err = SyntaxError;

    /// Takes canonical text, as [`Resource::as_str`] gives it.
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        check(text, Limits::RESOURCE)?;
        Ok(Self { text: text.into() })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({})", self.text)
    }
}

fn push_encoded(text: &mut String, segment: &str) -> Result<(), SyntaxError> {
    if matches!(segment, "" | "." | "..") {
        return Err(SyntaxError::new(format!("`{segment}` is no segment of a resource")));
    }
    for byte in segment.bytes() {
        if class(byte) == Class::Plain {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 0xF));
        }
    }
    Ok(())
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// Whether every resource that `narrow` selects is selected by `wide`; both canonical.
///
/// One comparison serves matching and covering, because a resource is a filter without wildcards.
/// It walks both texts once. A wildcard stands only where a segment starts, and up to the first
/// difference both texts have the same segments, so whenever `wide` is at a wildcard, `narrow` is
/// at the start of a segment too.
pub(crate) fn text_covers(wide: &str, narrow: &str) -> bool {
    let ends_open = is_open(wide);
    let (mut wide, mut narrow) = (wide.as_bytes(), narrow.as_bytes());
    loop {
        let same = common_prefix(wide, narrow);
        wide = wide.split_at(same).1;
        narrow = narrow.split_at(same).1;
        match (wide, narrow) {
            ([], []) | ([b'*'], [_, ..]) => return true,
            // `a/*` has met the `*` of `a/*/b`, and what follows lies below
            ([], [_, ..]) => return ends_open,
            ([b'?'], [_, ..]) => return narrow != b"*" && !narrow.contains(&b'/'),
            ([b'*', ..], [_, ..]) => {
                wide = wide.split_at(1).1;
                narrow = narrow.split_at(segment_end(narrow)).1;
            }
            _ => return false,
        }
    }
}

/// A filter that ends in `*` reaches resources of any greater length.
pub(crate) fn is_open(filter: &str) -> bool {
    filter.ends_with('*')
}

/// The number of segments of a filter.
pub(crate) fn length(filter: &str) -> usize {
    1 + filter.bytes().filter(|byte| *byte == b'/').count()
}

/// Whether the resources of `narrow` that have exactly `length` segments are all selected by
/// `wide`.
///
/// At one length, a filter is a row of literals and wildcards. A wildcard of `narrow` takes
/// literals that occur in no filter, so a set of filters covers the row only if one of them does.
pub(crate) fn covers_at(wide: &str, narrow: &str, length: usize) -> bool {
    let own = self::length(wide);
    if if is_open(wide) { own > length } else { own != length } {
        return false;
    }
    let mut narrow_segments = narrow.split('/');
    let mut wide_segments = wide.split('/');
    (0..length).all(|_| {
        let narrow = narrow_segments.next().unwrap_or("*");
        let wide = wide_segments.next().unwrap_or("*");
        is_wildcard(wide) || wide == narrow
    })
}

fn is_wildcard(segment: &str) -> bool {
    matches!(segment, "*" | "?")
}

pub(crate) fn intersect(a: &str, b: &str) -> Option<String> {
    let (a_length, b_length) = (length(a), length(b));
    let length = match (is_open(a), is_open(b)) {
        (true, true) => a_length.max(b_length),
        (false, true) if a_length >= b_length => a_length,
        (true, false) if b_length >= a_length => b_length,
        (false, false) if a_length == b_length => a_length,
        _ => return None,
    };
    let last_wildcard = if is_open(a) && is_open(b) { "*" } else { "?" };
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    let mut text = String::new();
    for position in 1..=length {
        let segment = match (a.next().unwrap_or("*"), b.next().unwrap_or("*")) {
            (a, b) if is_wildcard(a) && is_wildcard(b) => {
                if position == length {
                    last_wildcard
                } else {
                    "*"
                }
            }
            (a, b) if is_wildcard(a) || a == b => b,
            (a, b) if is_wildcard(b) => a,
            _ => return None,
        };
        if position > 1 {
            text.push('/');
        }
        text.push_str(segment);
    }
    Some(text)
}

/// How many bytes two texts begin with alike, eight at a time.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut same = 0;
    for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let difference = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if difference != 0 {
            return same + difference.trailing_zeros() as usize / 8;
        }
        same += 8;
    }
    let rest = a.iter().skip(same).zip(b.iter().skip(same));
    same + rest.take_while(|(a, b)| a == b).count()
}

fn segment_end(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'/').unwrap_or(text.len())
}

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

/// Checks the canonical form of a filter (contract, section 3).
pub(crate) fn check_filter(text: &str) -> Result<(), SyntaxError> {
    check(text, Limits::FILTER)
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
        fix.push('%');
        fix.push(hex_digit(byte >> 4));
        fix.push(hex_digit(byte & 0xF));
    }
    SyntaxError::new(format!("{character:?} is not allowed in a filter: write `{fix}`"))
}
