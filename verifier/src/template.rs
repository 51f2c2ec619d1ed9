//! Templates of resources: how the parameters of a route become the resource that it guards.

use std::fmt;
use std::str::FromStr;

use crate::error::{SyntaxError, shown};
use crate::resource::Resource;

/// The shape of the resources behind a route: segments as they are, and parameters in braces.
///
/// `{id}` is one segment, whatever it holds; `{*rest}`, at the end alone, is one or more. Values are
/// decoded ones, as a router gives them: a `/` inside `{id}` is encoded, not taken for a border.
///
/// ```
/// use tenmint_verifier::ResourceTemplate;
///
/// let logs: ResourceTemplate = "projects/{id}/logs".parse()?;
/// let resource = logs.fill(|name| (name == "id").then_some("a/b"))?;
/// assert_eq!(resource.as_str(), "projects/a%2Fb/logs");
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourceTemplate {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Part {
    /// A raw segment.
    Segment(Box<str>),
    Parameter(Box<str>),
    /// All that follows.
    Rest(Box<str>),
}

impl ResourceTemplate {
    /// The names of the parameters, in their order.
    ///
    /// ```
    /// use tenmint_verifier::ResourceTemplate;
    /// let template: ResourceTemplate = "projects/{id}/{*file}".parse()?;
    /// assert!(template.parameters().eq(["id", "file"]));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Segment(_) => None,
            Part::Parameter(name) | Part::Rest(name) => Some(&**name),
        })
    }

    /// The resource of these parameters.
    ///
    /// # Errors
    /// A parameter without a value, or one that is empty, `.` or `..` (in `{*rest}`, each segment).
    ///
    /// ```
    /// use tenmint_verifier::ResourceTemplate;
    /// let file: ResourceTemplate = "files/{*path}".parse()?;
    /// assert_eq!(file.fill(|_| Some("a/b c"))?.as_str(), "files/a/b%20c");
    /// assert!(file.fill(|_| Some("../b")).is_err());
    /// assert!(file.fill(|_| None).is_err());
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn fill<'v>(
        &self,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Resource, SyntaxError> {
        let value = |name: &str| {
            value(name).ok_or_else(|| SyntaxError::new(format!("`{}` has no value", shown(name))))
        };
        let mut segments: Vec<&str> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Segment(segment) => segments.push(segment),
                Part::Parameter(name) => segments.push(value(name)?),
                Part::Rest(name) => segments.extend(value(name)?.split('/')),
            }
        }
        Resource::new(segments)
    }
}

impl FromStr for ResourceTemplate {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let parts = text.split('/').map(Part::parse).collect::<Result<Box<[Part]>, _>>()?;
        let before_last = parts.split_last().map_or(&[][..], |(_, before)| before);
        if before_last.iter().any(|part| matches!(part, Part::Rest(_))) {
            return Err(SyntaxError::new("nothing can follow a parameter that takes all the rest"));
        }
        let template = Self { parts };
        for (place, name) in template.parameters().enumerate() {
            if template.parameters().take(place).any(|other| other == name) {
                return Err(SyntaxError::new(format!("`{{{name}}}` comes twice")));
            }
        }
        Ok(template)
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, SyntaxError> {
        let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            if text.contains(['{', '}']) {
                let message = format!("`{}`: a parameter is a whole segment", shown(text));
                return Err(SyntaxError::new(message));
            }
            Resource::new([text])?;
            return Ok(Self::Segment(text.into()));
        };
        let (name, part): (&str, fn(Box<str>) -> Self) = match inner.strip_prefix('*') {
            Some(rest) => (rest, Self::Rest),
            None => (inner, Self::Parameter),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            let message = format!("`{}` is no name of a parameter", shown(text));
            return Err(SyntaxError::new(message));
        }
        Ok(part(name.into()))
    }
}

impl fmt::Display for ResourceTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.parts.iter().enumerate() {
            if place > 0 {
                f.write_str("/")?;
            }
            match part {
                Part::Segment(segment) => f.write_str(segment)?,
                Part::Parameter(name) => write!(f, "{{{name}}}")?,
                Part::Rest(name) => write!(f, "{{*{name}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_template_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no segment"),
            ("a//b", "no segment"),
            ("a/../b", "no segment"),
            ("a/", "no segment"),
            ("a/x{id}", "whole segment"),
            ("a/{id", "whole segment"),
            ("a/{}", "no name"),
            ("a/{*}", "no name"),
            ("a/{i d}", "no name"),
            ("{*rest}/a", "nothing can follow"),
            ("{*rest}/{id}", "nothing can follow"),
            ("{id}/a/{id}", "twice"),
        ] {
            let message = text.parse::<ResourceTemplate>().unwrap_err().to_string();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }

    #[test]
    fn no_value_climbs_out_of_its_segment() {
        let template: ResourceTemplate = "projects/{id}/logs".parse().unwrap();
        for (value, filled) in [
            ("a", Some("projects/a/logs")),
            ("a/b", Some("projects/a%2Fb/logs")),
            ("*", Some("projects/%2A/logs")),
            ("{id}", Some("projects/%7Bid%7D/logs")),
            ("%2F", Some("projects/%252F/logs")),
            ("..", None),
            (".", None),
            ("", None),
        ] {
            let resource = template.fill(|_| Some(value)).ok();
            assert_eq!(resource.as_ref().map(Resource::as_str), filled, "{value}");
        }
        assert_eq!(template.to_string().parse(), Ok(template));
    }
}
