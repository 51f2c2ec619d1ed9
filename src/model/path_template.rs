//! Templates of raw paths: which paths of an API a rule is about, and what of them names the resource.

use std::fmt;
use std::str::FromStr;

use tenmint_verifier::{Resource, ResourceTemplate, SyntaxError};

/// Bytes that a template may have: as many as a filter of a scope.
const MAX_BYTES: usize = 512;

/// Segments as they stand in a path, and parameters in braces: `{id}` is one segment, `{*rest}`, at
/// the end alone, one or more.
///
/// The syntax of [`ResourceTemplate`], over segments as they are sent: nothing is decoded or encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    parts: Box<[Part]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    One(Box<str>),
    /// All that follows.
    Rest(Box<str>),
}

/// What the parameters of a template are in one path.
#[derive(Debug, PartialEq, Eq)]
pub struct Captures<'t, 'p>(Vec<(&'t str, &'p str)>);

impl PathTemplate {
    /// What the parameters are in a path; nothing where the template is about others.
    pub fn captures<'t, 'p>(&'t self, path: &'p Resource) -> Option<Captures<'t, 'p>> {
        let mut captures = Vec::new();
        let mut rest = Some(path.as_str());
        for part in &self.parts {
            let text = rest?;
            let (segment, after) = match text.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (text, None),
            };
            rest = after;
            match part {
                Part::Literal(literal) if **literal == *segment => {}
                Part::Literal(_) => return None,
                Part::One(name) => captures.push((&**name, segment)),
                Part::Rest(name) => {
                    captures.push((&**name, text));
                    rest = None;
                }
            }
        }
        rest.is_none().then_some(Captures(captures))
    }

    /// The resource that captures of another template make; nothing where one is missing.
    pub fn fill(&self, captures: &Captures<'_, '_>) -> Option<Resource> {
        let segments: Option<Vec<&str>> = self.parts.iter().map(|part| captures.of(part)).collect();
        segments?.join("/").parse().ok()
    }

    /// The first parameter that another template does not have, or has as something else.
    pub fn first_unknown_to(&self, other: &Self) -> Option<String> {
        let is_parameter = |part: &&Part| !matches!(part, Part::Literal(_));
        let mut parameters = self.parts.iter().filter(is_parameter);
        parameters.find(|part| !other.parts.contains(part)).map(ToString::to_string)
    }
}

impl<'p> Captures<'_, 'p> {
    fn of<'s>(&self, part: &'s Part) -> Option<&'s str>
    where
        'p: 's,
    {
        match part {
            Part::Literal(literal) => Some(literal),
            Part::One(wanted) | Part::Rest(wanted) => {
                self.0.iter().find(|(name, _)| **name == **wanted).map(|(_, text)| *text)
            }
        }
    }
}

impl FromStr for PathTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("a path has at most {MAX_BYTES} bytes"));
        }
        // how parameters are written is told in one place
        text.parse::<ResourceTemplate>().map_err(|cause| cause.to_string())?;
        let parts = text.split('/').map(Part::parse).collect::<Result<_, _>>();
        parts.map(|parts| Self { parts }).map_err(|cause| cause.to_string())
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, SyntaxError> {
        let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            // else it would be about no path at all
            text.parse::<Resource>()?;
            return Ok(Self::Literal(text.into()));
        };
        Ok(match name.strip_prefix('*') {
            Some(rest) => Self::Rest(rest.into()),
            None => Self::One(name.into()),
        })
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(literal) => f.write_str(literal),
            Self::One(name) => write!(f, "{{{name}}}"),
            Self::Rest(name) => write!(f, "{{*{name}}}"),
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.parts.iter().enumerate() {
            if place > 0 {
                f.write_str("/")?;
            }
            part.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tenmint_verifier::ResourceFilter;

    use super::*;

    fn template(text: &str) -> PathTemplate {
        text.parse().unwrap()
    }

    /// The resource that a path is under two templates.
    fn resource(path: &str, of: &str, path_sent: &str) -> Option<String> {
        let path_sent: Resource = path_sent.parse().unwrap();
        let path = template(path);
        let filled = template(of).fill(&path.captures(&path_sent)?);
        filled.map(|resource| resource.as_str().to_owned())
    }

    #[test]
    fn a_path_is_taken_apart_segment_by_segment() {
        for (path, of, sent, made) in [
            ("projects/{id}", "projects/{id}", "projects/alpha", Some("projects/alpha")),
            ("v1/projects/{id}/logs", "projects/{id}", "v1/projects/a/logs", Some("projects/a")),
            ("projects/{id}", "projects/{id}", "projects/alpha/logs", None),
            ("projects/{id}", "projects/{id}", "projects", None),
            ("projects/{id}", "projects/{id}", "project/alpha", None),
            ("{*all}", "{*all}", "a/b/c", Some("a/b/c")),
            ("files/{*path}", "f/{*path}", "files/a/b", Some("f/a/b")),
            ("files/{*path}", "f/{*path}", "files", None),
            ("a%20b/{id}", "x/{id}", "a%20b/c%20d", Some("x/c%20d")),
            ("{a}/{b}", "{b}/{a}", "x/y", Some("y/x")),
            ("health", "health", "health", Some("health")),
        ] {
            assert_eq!(resource(path, of, sent).as_deref(), made, "{path} {of} {sent}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_fix() {
        for (text, told) in [
            ("", "segment"),
            ("/a", "segment"),
            ("a//b", "segment"),
            ("a/..", "segment"),
            ("{*rest}/a", "nothing can follow"),
            ("{id}/{id}", "twice"),
            ("x{id}", "whole segment"),
            ("a b", "write `%20`"),
            ("a/%2f", "write `%2F`"),
            ("a/%41", "write `A`"),
            ("a/*", "not allowed"),
        ] {
            let refused = text.parse::<PathTemplate>().unwrap_err();
            assert!(refused.contains(told), "{text}: {refused}");
        }
        assert!("a".repeat(512).parse::<PathTemplate>().is_ok());
        assert!("a".repeat(513).parse::<PathTemplate>().is_err());
        let text = "v1/{id}/a%20b/{*rest}";
        assert_eq!(template(text).to_string(), text);
        let unknown = |of: &str, path: &str| template(of).first_unknown_to(&template(path));
        assert_eq!(unknown("a/{id}", "b/{id}/{*rest}"), None);
        assert_eq!(unknown("a/{rest}", "b/{*rest}").as_deref(), Some("{rest}"));
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("%2A".to_owned())]
    }

    proptest! {
        /// A template with a parameter for each segment of a filter that is a wildcard is about
        /// exactly what the filter of the verifier covers.
        #[test]
        fn a_template_is_about_what_a_filter_covers(
            parts in vec(prop_oneof![3 => segment(), 1 => Just("*".to_owned())], 1..5),
            deep in any::<bool>(),
            path in vec(segment(), 1..6),
        ) {
            let last = parts.len() - 1;
            let mut filter = parts.clone();
            let mut written = parts;
            for (place, part) in written.iter_mut().enumerate() {
                if part == "*" {
                    *part = format!("{{p{place}}}");
                    if place == last {
                        let rest = if deep { "*" } else { "?" };
                        filter[place] = rest.to_owned();
                        *part = if deep { "{*rest}".to_owned() } else { part.clone() };
                    }
                }
            }
            let filter: ResourceFilter = filter.join("/").parse().unwrap();
            let path: Resource = path.join("/").parse().unwrap();
            let template = template(&written.join("/"));
            let captures = template.captures(&path);
            // `*` alone covers all, and so does `{*rest}`
            prop_assert_eq!(captures.is_some(), filter.matches(&path), "{} {}", template, path);
            if let Some(captures) = captures {
                prop_assert_eq!(template.fill(&captures), Some(path), "filled with its own");
            }
        }

        /// The resource is the one that a route of the verifier guards, whose router decodes.
        #[test]
        fn a_path_names_the_resource_that_a_route_of_the_verifier_guards(
            values in ["[a-z %*ü]{1,4}", "[a-z@.]{1,3}x"],
        ) {
            let path = Resource::new(["v1", &values[0], "logs", &values[1]]).unwrap();
            let of = "projects/{id}/{log}";
            let guarded: ResourceTemplate = of.parse().unwrap();
            let value = |name: &str| Some(if name == "id" { &*values[0] } else { &*values[1] });
            let route = template("v1/{id}/logs/{log}");
            let ours = template(of).fill(&route.captures(&path).unwrap());
            prop_assert_eq!(ours.unwrap(), guarded.fill(value).unwrap());
        }
    }
}
