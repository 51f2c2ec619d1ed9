//! Resources: the things that an API guards, each named by a canonical path.

use std::fmt;
use std::str::FromStr;

use crate::error::SyntaxError;
use crate::filter::ResourceFilter;
use crate::syntax::{self, push_escape};

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
        syntax::check_resource(text)?;
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
        if syntax::is_plain(byte) {
            text.push(char::from(byte));
        } else {
            push_escape(text, byte);
        }
    }
    Ok(())
}
