//! Sets of scopes: a union and nothing else. There is no denial.

use std::fmt;
use std::str::FromStr;

use crate::error::SyntaxError;
use crate::filter;
use crate::resource::Resource;
use crate::scope::{Action, Scope, ScopeView, check_scope};
use crate::scope_tree;

/// Scopes that a set may be written with.
const MAX_SCOPES: usize = 64;
/// Scopes that are quickly held against each other.
const FEW: usize = 64;
/// Bytes that a set may be written with.
const MAX_SET_BYTES: usize = 4096;

/// A union of scopes, never empty, written with single spaces (RFC 6749, section 3.3).
///
/// Printing gives back the spelling and the order that were parsed.
///
/// ```
/// use tenmint_verifier::{Action, Resource, ScopeSet};
///
/// let granted: ScopeSet = "read:projects/* write:projects/alpha".parse()?;
/// assert!(granted.matches(&Action::Write, &Resource::new(["projects", "alpha"])?));
/// assert!(granted.covers(&"read:projects/?".parse()?));
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ScopeSet {
    text: Box<str>,
    spans: Box<[Span]>,
}

/// Where a scope stands in the text of its set, and where its action ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Span {
    start: u32,
    action_end: u32,
    end: u32,
}

impl ScopeSet {
    /// The text, as it was written.
    ///
    /// ```
    /// # use tenmint_verifier::ScopeSet;
    /// assert_eq!("chat read:*".parse::<ScopeSet>()?.as_str(), "chat read:*");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scopes, in the order they were written.
    ///
    /// ```
    /// # use tenmint_verifier::ScopeSet;
    /// assert_eq!("chat read:*".parse::<ScopeSet>()?.iter().count(), 2);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = ScopeView<'_>> + Clone {
        self.spans.iter().map(|span| self.view(*span))
    }

    fn view(&self, span: Span) -> ScopeView<'_> {
        let text = self.text.get(span.start as usize..span.end as usize).unwrap_or_default();
        ScopeView::split(text, (span.action_end - span.start) as usize)
    }

    /// The scopes of this action. Most scopes of a set are of another one, so bytes are compared
    /// before a view is made.
    pub(crate) fn allowing<'s>(
        &'s self,
        action: &'s str,
    ) -> impl Iterator<Item = ScopeView<'s>> + Clone {
        let named = move |span: &&Span| {
            let name = self.text.as_bytes().get(span.start as usize..span.action_end as usize);
            name == Some(action.as_bytes()) || name == Some(b"*")
        };
        self.spans.iter().filter(named).map(|span| self.view(*span))
    }

    /// Whether one of the scopes allows this action on this resource.
    ///
    /// No organization is asked for here. An API checks a token with
    /// [`Token::require`](crate::Token::require), which does.
    ///
    /// ```
    /// use tenmint_verifier::{Action, Resource, ScopeSet};
    /// let set: ScopeSet = "read:a/* write:a/b".parse()?;
    /// assert!(!set.matches(&Action::Write, &Resource::new(["a", "c"])?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn matches(&self, action: &Action, resource: &Resource) -> bool {
        self.allowing(action.as_str())
            .any(|scope| filter::text_covers(scope.filter(), resource.as_str()))
    }

    /// Whether the set allows all that `narrow` allows. Exact, also where it takes several scopes
    /// together: `read:a/? read:a/*/*` covers `read:a/*`.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let set: ScopeSet = "read:a/? read:a/*/*".parse()?;
    /// assert!(set.covers(&"read:a/*".parse()?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn covers(&self, narrow: &Scope) -> bool {
        self.covers_view(narrow.view())
    }

    /// The place of the first scope of `narrow` that this set does not cover, if there is one.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let held: ScopeSet = "read:a/*".parse()?;
    /// let asked: ScopeSet = "read:a/b write:a/b".parse()?;
    /// assert_eq!(held.first_uncovered(&asked), Some(1));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn first_uncovered(&self, narrow: &ScopeSet) -> Option<usize> {
        narrow.iter().position(|scope| !self.covers_view(scope))
    }

    /// Parses a set of any length, such as the union of all that somebody holds. Each scope is
    /// checked as ever.
    ///
    /// What a caller or a token says is parsed with [`ScopeSet::from_str`], which has limits. What
    /// [`ScopeSet::union`] and [`ScopeSet::from_scopes`] make of parsed scopes parses back here.
    ///
    /// # Errors
    /// No scope, one that is not canonical, or other spaces than one between two.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let stored = ["chat"; 100].join(" ");
    /// assert!(stored.parse::<ScopeSet>().is_err());
    /// assert_eq!(ScopeSet::parse_any_length(&stored)?.iter().count(), 100);
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn parse_any_length(text: &str) -> Result<ScopeSet, SyntaxError> {
        // places are counted in 32 bits
        if u32::try_from(text.len()).is_err() {
            return Err(SyntaxError::new("scopes have at most 4 GiB"));
        }
        if text.is_empty() {
            return Err(SyntaxError::new("an empty list of scopes is refused: leave it out"));
        }
        let mut spans = Vec::with_capacity(text.bytes().filter(|byte| *byte == b' ').count() + 1);
        let mut start = 0_u32;
        for scope in text.split(' ') {
            if scope.is_empty() {
                return Err(SyntaxError::new("scopes are separated by exactly one space"));
            }
            let action_end = start + u32::from(check_scope(scope)?);
            let end = start + span_length(scope);
            spans.push(Span { start, action_end, end });
            start = end.saturating_add(1);
        }
        Ok(Self { text: text.into(), spans: spans.into() })
    }

    /// The union of these scopes, covered ones dropped; none for no scopes.
    ///
    /// The result may be longer than what [`ScopeSet::from_str`] takes.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let scopes = ["read:a/b".parse()?, "chat".parse()?, "read:a/*".parse()?];
    /// assert_eq!(ScopeSet::from_scopes(scopes).unwrap().as_str(), "chat read:a/*");
    /// assert!(ScopeSet::from_scopes([]).is_none());
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn from_scopes(scopes: impl IntoIterator<Item = Scope>) -> Option<ScopeSet> {
        let scopes: Vec<Scope> = scopes.into_iter().collect();
        let kept = if scopes.len() > FEW {
            scope_tree::without_covered(scopes)
        } else {
            without_covered(scopes, Scope::covers)
        };
        kept.into_iter().collect::<Joined>().into_set()
    }

    /// What one set or the other allows, and nothing more; covered scopes dropped.
    ///
    /// The result may be longer than what [`ScopeSet::from_str`] takes.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let role: ScopeSet = "read:projects/* chat".parse()?;
    /// let grant: ScopeSet = "read:projects/alpha write:projects/alpha".parse()?;
    /// assert_eq!(role.union(&grant).as_str(), "read:projects/* chat write:projects/alpha");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    #[must_use]
    pub fn union(&self, other: &ScopeSet) -> ScopeSet {
        let both = self.iter().chain(other.iter()).map(ScopeView::to_scope);
        Self::from_scopes(both).unwrap_or_else(|| self.clone())
    }

    /// What both sets allow: each pair of scopes intersected, covered ones dropped.
    ///
    /// The result may be longer than what [`ScopeSet::from_str`] takes; who prints it into a token
    /// checks its length.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let key: ScopeSet = "read:projects/* chat".parse()?;
    /// let owner: ScopeSet = "*:projects/alpha/*".parse()?;
    /// assert_eq!(key.intersect(&owner).unwrap().as_str(), "read:projects/alpha/* chat:projects/alpha/*");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn intersect(&self, other: &ScopeSet) -> Option<ScopeSet> {
        let pairs = self.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
        Self::from_scopes(pairs.filter_map(|(a, b)| {
            // where one covers the other, the narrow one stays as it was written
            if b.covers(a) {
                return Some(a.to_scope());
            }
            if a.covers(b) {
                return Some(b.to_scope());
            }
            let action = match (a.action(), b.action()) {
                (action, other) if action == other || other == "*" => action,
                ("*", action) => action,
                _ => return None,
            };
            Some(Scope::join(action, &filter::intersect(a.filter(), b.filter())?))
        }))
    }

    /// The same set without the scopes that another one of it covers.
    ///
    /// ```
    /// use tenmint_verifier::ScopeSet;
    /// let set: ScopeSet = "read:a/b chat read:a/*".parse()?;
    /// assert_eq!(set.without_covered().as_str(), "chat read:a/*");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    #[must_use]
    pub fn without_covered(&self) -> ScopeSet {
        Self::from_scopes(self.iter().map(ScopeView::to_scope)).unwrap_or_else(|| self.clone())
    }

    fn covers_view(&self, narrow: ScopeView<'_>) -> bool {
        self.allowing(narrow.action())
            .any(|wide| filter::text_covers(wide.filter(), narrow.filter()))
            || self.covers_by_length(narrow)
    }

    /// Several filters can cover an open one together, each at some lengths. Above the longest of
    /// them every length is like the next, so there are finitely many to look at.
    fn covers_by_length(&self, narrow: ScopeView<'_>) -> bool {
        if !filter::is_open(narrow.filter()) {
            return false;
        }
        let wide = self.allowing(narrow.action());
        // one alone covers or does not, and that was asked before
        if wide.clone().nth(1).is_none() {
            return false;
        }
        let own = filter::length(narrow.filter());
        let longest = wide.clone().map(|wide| filter::length(wide.filter())).fold(own, usize::max);
        (own..=longest + 1).all(|length| {
            wide.clone().any(|wide| filter::covers_at(wide.filter(), narrow.filter(), length))
        })
    }
}

impl FromStr for ScopeSet {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_SET_BYTES {
            return Err(SyntaxError::new(format!("scopes have at most {MAX_SET_BYTES} bytes")));
        }
        let set = Self::parse_any_length(text)?;
        if set.spans.len() > MAX_SCOPES {
            return Err(SyntaxError::new(format!("a list has at most {MAX_SCOPES} scopes")));
        }
        Ok(set)
    }
}

impl From<Scope> for ScopeSet {
    fn from(scope: Scope) -> Self {
        let span =
            Span { start: 0, action_end: scope.action_end(), end: span_length(scope.as_str()) };
        Self { text: scope.into_text(), spans: Box::new([span]) }
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeSet({})", self.text)
    }
}

impl serde::Serialize for ScopeSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// The same as [`scope_tree::without_covered`], of scopes or filters, and faster for a few.
pub(crate) fn without_covered<T>(
    all: impl IntoIterator<Item = T>,
    covers: impl Fn(&T, &T) -> bool,
) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for one in all {
        // one stays unless one that is kept covers it, and drops those it covers itself
        if kept.iter().any(|wide| covers(wide, &one)) {
            continue;
        }
        kept.retain(|narrow| !covers(&one, narrow));
        kept.push(one);
    }
    kept
}

/// Scopes on their way into the text of a set.
#[derive(Default)]
struct Joined {
    text: String,
    spans: Vec<Span>,
}

impl Joined {
    fn into_set(self) -> Option<ScopeSet> {
        let some = !self.spans.is_empty();
        some.then(|| ScopeSet { text: self.text.into(), spans: self.spans.into() })
    }
}

impl FromIterator<Scope> for Joined {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut joined = Self::default();
        for scope in scopes {
            let start = joined.text.len() + usize::from(!joined.text.is_empty());
            let end = start + scope.as_str().len();
            let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
                // what lies beyond 4 GiB is not granted, and no filter is cut in two
                break;
            };
            if start > 0 {
                joined.text.push(' ');
            }
            joined.text.push_str(scope.as_str());
            joined.spans.push(Span { start, action_end: start + scope.action_end(), end });
        }
        joined
    }
}

/// The length of a text that is known to be below 4 GiB, or the end of all that can be.
fn span_length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every filter of up to three segments over two literals and the wildcards, with every action, in an
    /// order that mixes wide and narrow ones.
    fn all_scopes() -> Vec<Scope> {
        let mut filters = Vec::new();
        for last in ["a", "b", "*", "?"] {
            filters.push(last.to_owned());
            for first in ["a", "b", "*"] {
                filters.push(format!("{first}/{last}"));
                filters.extend(["a", "b", "*"].map(|second| format!("{first}/{second}/{last}")));
            }
        }
        let scopes =
            |filter: &String| ["read", "*", "chat"].map(|action| format!("{action}:{filter}"));
        let all: Vec<String> = filters.iter().flat_map(scopes).chain(["chat".to_owned()]).collect();
        all.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn many_scopes_are_held_against_each_other_as_few_are() {
        let all = all_scopes();
        // a step that has no divisor in common with the length takes them in another order each
        for (step, count) in [(1, 157), (5, 70), (7, 33), (11, 12), (13, 90), (29, 40), (61, 20)] {
            for start in 0..all.len() {
                let some = (0..count).map(|at| all[(start + at * step) % all.len()].clone());
                let some: Vec<Scope> = some.collect();
                let few = without_covered(some.clone(), Scope::covers);
                assert_eq!(scope_tree::without_covered(some), few, "{step} {start}");
            }
        }
    }
}
