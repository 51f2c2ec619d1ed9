//! Scopes: an action on the resources of a filter.
//!
//! No action implies another. The organization is never part of a scope; it is a claim of the
//! token, and an argument of every check.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::{SyntaxError, shown};
use crate::filter::{self, ResourceFilter};
use crate::resource::Resource;
use crate::syntax;

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

    /// What a request of this method of HTTP does, where nothing else is said: the safe methods (RFC
    /// 9110, section 9.2.1) read, all others write.
    ///
    /// ```
    /// use tenmint_verifier::Action;
    /// assert_eq!(Action::for_method("HEAD"), Action::Read);
    /// assert_eq!(Action::for_method("PROPFIND"), Action::Write);
    /// assert_eq!(Action::for_method("get"), Action::Write, "methods are told apart by case");
    /// ```
    pub fn for_method(method: &str) -> Self {
        match method {
            "GET" | "HEAD" | "OPTIONS" | "TRACE" => Self::Read,
            _ => Self::Write,
        }
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

    pub(crate) fn join(action: &str, filter: &str) -> Self {
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

    pub(crate) fn action_end(&self) -> u32 {
        u32::from(self.action_end)
    }

    pub(crate) fn into_text(self) -> Box<str> {
        self.text
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
    pub(crate) fn split(text: &'a str, action_end: usize) -> Self {
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

    pub(crate) fn covers(self, narrow: ScopeView<'_>) -> bool {
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

/// Checks one scope-token and says where its action ends.
pub(crate) fn check_scope(text: &str) -> Result<u8, SyntaxError> {
    let action_end = text.bytes().position(|byte| byte == b':').unwrap_or(text.len());
    let (action, filter) = text.split_at(action_end);
    let filter = filter.strip_prefix(':');
    let is_built_in = matches!(action, "read" | "write" | "admin" | "*");
    if !is_built_in {
        check_name(action)?;
    }
    match filter {
        Some("") => {
            return Err(SyntaxError::new(format!(
                "`{action}:` has an empty filter: write `{action}:*`"
            )));
        }
        Some(filter) => syntax::check_filter(filter)?,
        None if is_built_in => {
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
