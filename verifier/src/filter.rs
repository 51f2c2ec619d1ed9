//! Filters: sets of resources, written as paths with wildcards.
//!
//! What parses has exactly one spelling, so that comparing bytes, segment by segment, is exact.
//! Nothing here is ever decoded or repaired.

use std::fmt;
use std::str::FromStr;

use crate::error::SyntaxError;
use crate::resource::Resource;
use crate::syntax::check_filter;

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
        text_covers(&self.text, resource.as_str())
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
