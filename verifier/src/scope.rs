//! Scopes: an action on the resources of a filter, and sets of them.
//!
//! A [`ScopeSet`] is a union and nothing else: there is no denial, and no action implies another.
//! The organization is never part of a scope; it is a claim of the token, and an argument of every
//! check.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::SyntaxError;
use crate::filter::{self, Resource, ResourceFilter};

/// Scopes that a set may be written with.
const MAX_SCOPES: usize = 64;
/// Bytes that a set may be written with.
const MAX_SET_BYTES: usize = 4096;
/// Characters that the name of an action may have.
const MAX_NAME: usize = 64;

/// What is done to a resource.
///
/// ```
/// use tenmint_verifier::Action;
/// assert_eq!("read".parse::<Action>()?, Action::Read);
/// assert_eq!(Action::named("chat")?.as_str(), "chat");
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// `read`
    Read,
    /// `write`
    Write,
    /// `admin`, which implies neither of the others
    Admin,
    /// `*`: every action
    Any,
    /// An action that the installation or an audience defines.
    Named(ActionName),
}

impl Action {
    /// An action by its name, built in or not.
    ///
    /// # Errors
    /// The name is not `[a-z][a-z0-9._-]{0,63}`.
    ///
    /// ```
    /// use tenmint_verifier::Action;
    /// assert_eq!(Action::named("write")?, Action::Write);
    /// assert!(Action::named("Chat").is_err());
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn named(name: &str) -> Result<Self, SyntaxError> {
        check_name(name)?;
        Ok(match name {
            "read" => Self::Read,
            "write" => Self::Write,
            "admin" => Self::Admin,
            _ => Self::Named(ActionName(name.into())),
        })
    }

    /// The text, as a scope starts with it.
    ///
    /// ```
    /// use tenmint_verifier::Action;
    /// assert_eq!(Action::Any.as_str(), "*");
    /// ```
    pub fn as_str(&self) -> &str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
            Self::Any => "*",
            Self::Named(name) => &name.0,
        }
    }
}

impl FromStr for Action {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text == "*" { Ok(Self::Any) } else { Self::named(text) }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of an action that is not built in. Made by [`Action::named`].
///
/// ```
/// use tenmint_verifier::Action;
/// let Action::Named(name) = Action::named("models.list")? else { unreachable!() };
/// assert_eq!(name.as_str(), "models.list");
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActionName(Box<str>);

impl ActionName {
    /// The name.
    ///
    /// ```
    /// # use tenmint_verifier::Action;
    /// # let Action::Named(name) = Action::named("chat")? else { unreachable!() };
    /// assert_eq!(name.as_str(), "chat");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One scope: `action:filter`, or the bare name of an action that is not built in.
///
/// Two scopes are equal when they mean the same: `chat` equals `chat:*`. Printing gives back the
/// spelling that was parsed.
///
/// ```
/// use tenmint_verifier::{Action, Resource, Scope};
///
/// let scope: Scope = "read:projects/alpha/*".parse()?;
/// assert!(scope.matches(&Action::Read, &Resource::new(["projects", "alpha", "logs"])?));
/// assert!(!scope.matches(&Action::Write, &Resource::new(["projects", "alpha", "logs"])?));
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Clone)]
pub struct Scope {
    text: Box<str>,
    action_end: u8,
}

impl Scope {
    /// The scope of this action on these resources.
    ///
    /// ```
    /// use tenmint_verifier::{Action, ResourceFilter, Scope};
    /// let scope = Scope::new(&Action::Read, &ResourceFilter::all());
    /// assert_eq!(scope.as_str(), "read:*");
    /// ```
    pub fn new(action: &Action, filter: &ResourceFilter) -> Self {
        Self::join(action.as_str(), filter.as_str())
    }

    fn join(action: &str, filter: &str) -> Self {
        // a checked name has at most 64 characters
        let action_end = u8::try_from(action.len()).unwrap_or(u8::MAX);
        Self { text: format!("{action}:{filter}").into(), action_end }
    }

    /// The text, as it was written.
    ///
    /// ```
    /// use tenmint_verifier::Scope;
    /// assert_eq!("chat".parse::<Scope>()?.as_str(), "chat");
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same scope, borrowed, with its parts at hand.
    ///
    /// ```
    /// use tenmint_verifier::Scope;
    /// let scope: Scope = "read:a/*".parse()?;
    /// assert_eq!((scope.view().action(), scope.view().filter()), ("read", "a/*"));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn view(&self) -> ScopeView<'_> {
        ScopeView::split(&self.text, usize::from(self.action_end))
    }

    /// Whether the scope allows this action on this resource.
    ///
    /// ```
    /// use tenmint_verifier::{Action, Resource, Scope};
    /// let scope: Scope = "*:a/*".parse()?;
    /// assert!(scope.matches(&Action::Read, &Resource::new(["a", "b"])?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn matches(&self, action: &Action, resource: &Resource) -> bool {
        self.view().matches(action, resource)
    }

    /// Whether this scope allows all that `narrow` allows. Exact.
    ///
    /// ```
    /// use tenmint_verifier::Scope;
    /// let wide: Scope = "read:a/*".parse()?;
    /// assert!(wide.covers(&"read:a/b".parse()?));
    /// assert!(!wide.covers(&"read:a".parse()?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn covers(&self, narrow: &Scope) -> bool {
        self.view().covers(narrow.view())
    }
}

impl FromStr for Scope {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let action_end = check_scope(text)?;
        Ok(Self { text: text.into(), action_end })
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for Scope {}

impl Hash for Scope {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.view().hash(state);
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.text)
    }
}

/// A borrowed scope: its text, its action and its filter.
///
/// ```
/// use tenmint_verifier::ScopeSet;
/// let set: ScopeSet = "read:a/* chat".parse()?;
/// let actions: Vec<_> = set.iter().map(|scope| scope.action()).collect();
/// assert_eq!(actions, ["read", "chat"]);
/// # Ok::<(), tenmint_verifier::SyntaxError>(())
/// ```
#[derive(Clone, Copy)]
pub struct ScopeView<'a> {
    text: &'a str,
    action: &'a str,
    filter: &'a str,
}

impl<'a> ScopeView<'a> {
    fn split(text: &'a str, action_end: usize) -> Self {
        let (action, rest) = text.split_at(action_end);
        Self { text, action, filter: rest.strip_prefix(':').unwrap_or("*") }
    }

    /// The text, as it was written.
    ///
    /// ```
    /// # let set: tenmint_verifier::ScopeSet = "chat".parse().unwrap();
    /// assert_eq!(set.iter().next().unwrap().as_str(), "chat");
    /// ```
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// The action.
    ///
    /// ```
    /// # let set: tenmint_verifier::ScopeSet = "chat".parse().unwrap();
    /// assert_eq!(set.iter().next().unwrap().action(), "chat");
    /// ```
    pub fn action(self) -> &'a str {
        self.action
    }

    /// The filter; `*` for a bare name.
    ///
    /// ```
    /// # let set: tenmint_verifier::ScopeSet = "chat".parse().unwrap();
    /// assert_eq!(set.iter().next().unwrap().filter(), "*");
    /// ```
    pub fn filter(self) -> &'a str {
        self.filter
    }

    /// The same scope, owned.
    ///
    /// ```
    /// # let set: tenmint_verifier::ScopeSet = "chat".parse().unwrap();
    /// assert_eq!(set.iter().next().unwrap().to_scope().as_str(), "chat");
    /// ```
    pub fn to_scope(self) -> Scope {
        let action_end = u8::try_from(self.action.len()).unwrap_or(u8::MAX);
        Scope { text: self.text.into(), action_end }
    }

    fn matches(self, action: &Action, resource: &Resource) -> bool {
        self.allows(action.as_str()) && filter::text_covers(self.filter, resource.as_str())
    }

    fn covers(self, narrow: ScopeView<'_>) -> bool {
        self.allows(narrow.action) && filter::text_covers(self.filter, narrow.filter)
    }

    fn allows(self, action: &str) -> bool {
        self.action == action || self.action == "*"
    }
}

impl PartialEq for ScopeView<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.action, self.filter) == (other.action, other.filter)
    }
}

impl Eq for ScopeView<'_> {}

impl Hash for ScopeView<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.action, self.filter).hash(state);
    }
}

impl fmt::Debug for ScopeView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeView({})", self.text)
    }
}

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
        self.spans.iter().map(|span| {
            let text = self.text.get(span.start as usize..span.end as usize).unwrap_or_default();
            ScopeView::split(text, (span.action_end - span.start) as usize)
        })
    }

    /// Whether one of the scopes allows this action on this resource.
    ///
    /// ```
    /// use tenmint_verifier::{Action, Resource, ScopeSet};
    /// let set: ScopeSet = "read:a/* write:a/b".parse()?;
    /// assert!(!set.matches(&Action::Write, &Resource::new(["a", "c"])?));
    /// # Ok::<(), tenmint_verifier::SyntaxError>(())
    /// ```
    pub fn matches(&self, action: &Action, resource: &Resource) -> bool {
        self.iter().any(|scope| scope.matches(action, resource))
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
        Self::from_uncovered(pairs.filter_map(|(a, b)| {
            // where one covers the other, the narrow one stays as it was written
            if b.covers(a) {
                return Some(a.to_scope());
            }
            if a.covers(b) {
                return Some(b.to_scope());
            }
            let action = match (a.action, b.action) {
                (action, other) if action == other || other == "*" => action,
                ("*", action) => action,
                _ => return None,
            };
            Some(Scope::join(action, &filter::intersect(a.filter, b.filter)?))
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
        Self::from_uncovered(self.iter().map(ScopeView::to_scope)).unwrap_or_else(|| self.clone())
    }

    /// Keeps a scope unless one that is kept covers it; drops those it covers itself.
    fn from_uncovered(scopes: impl Iterator<Item = Scope>) -> Option<ScopeSet> {
        let mut kept: Vec<Scope> = Vec::new();
        for scope in scopes {
            if kept.iter().any(|wide| wide.covers(&scope)) {
                continue;
            }
            kept.retain(|narrow| !scope.covers(narrow));
            kept.push(scope);
        }
        kept.into_iter().collect::<Joined>().into_set()
    }

    fn covers_view(&self, narrow: ScopeView<'_>) -> bool {
        self.iter().any(|wide| wide.covers(narrow)) || self.covers_by_length(narrow)
    }

    /// Several filters can cover an open one together, each at some lengths. Above the longest of
    /// them every length is like the next, so there are finitely many to look at.
    fn covers_by_length(&self, narrow: ScopeView<'_>) -> bool {
        if !filter::is_open(narrow.filter) {
            return false;
        }
        let wide = self.iter().filter(|wide| wide.allows(narrow.action));
        let own = filter::length(narrow.filter);
        let longest = wide.clone().map(|wide| filter::length(wide.filter)).fold(own, usize::max);
        (own..=longest + 1).all(|length| {
            wide.clone().any(|wide| filter::covers_at(wide.filter, narrow.filter, length))
        })
    }
}

impl FromStr for ScopeSet {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        if text.len() > MAX_SET_BYTES {
            return Err(SyntaxError::new(format!("scopes have at most {MAX_SET_BYTES} bytes")));
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
            start = end + 1;
        }
        if spans.len() > MAX_SCOPES {
            return Err(SyntaxError::new(format!("a list has at most {MAX_SCOPES} scopes")));
        }
        Ok(Self { text: text.into(), spans: spans.into() })
    }
}

impl From<Scope> for ScopeSet {
    fn from(scope: Scope) -> Self {
        let span = Span {
            start: 0,
            action_end: u32::from(scope.action_end),
            end: span_length(&scope.text),
        };
        Self { text: scope.text, spans: Box::new([span]) }
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
            if !joined.text.is_empty() {
                joined.text.push(' ');
            }
            let start = span_length(&joined.text);
            joined.text.push_str(&scope.text);
            let action_end = start + u32::from(scope.action_end);
            joined.spans.push(Span { start, action_end, end: span_length(&joined.text) });
        }
        joined
    }
}

/// A set is at most 64 x 64 filters of 1 KiB, far below 4 GiB.
fn span_length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// Checks one scope-token and says where its action ends.
fn check_scope(text: &str) -> Result<u8, SyntaxError> {
    let (action, filter) = match text.split_once(':') {
        Some((action, filter)) => (action, Some(filter)),
        None => (text, None),
    };
    if action != "*" {
        check_name(action)?;
    }
    match filter {
        Some("") => {
            return Err(SyntaxError::new(format!(
                "`{action}:` has an empty filter: write `{action}:*`"
            )));
        }
        Some(filter) => filter::check_filter(filter)?,
        None if matches!(action, "read" | "write" | "admin" | "*") => {
            return Err(SyntaxError::new(format!("`{action}` needs a filter: write `{action}:*`")));
        }
        None => {}
    }
    Ok(u8::try_from(action.len()).unwrap_or(u8::MAX))
}

fn check_name(name: &str) -> Result<(), SyntaxError> {
    let is_name_byte = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let bytes = name.as_bytes();
    let ok = bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.len() <= MAX_NAME
        && bytes.iter().all(is_name_byte);
    if ok {
        return Ok(());
    }
    Err(SyntaxError::new(if name.is_empty() {
        "a scope starts with an action: write `read:...` or a name".to_owned()
    } else if name.contains('/') {
        format!("`{}` has no action: write `read:...`", shown(name))
    } else {
        format!(
            "`{}` is no action: a name is a-z, then a-z 0-9 `.` `_` `-`, at most {MAX_NAME}",
            shown(name)
        )
    }))
}

/// The start of a caller's text, short enough for a message.
fn shown(text: &str) -> String {
    text.chars().take(MAX_NAME).flat_map(char::escape_debug).collect()
}
