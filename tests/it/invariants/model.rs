//! What the contract says, in a few plain rules that share nothing with the code they judge.
//!
//! Scopes are compared in a small universe of actions and resources, one bit for each pair: it has a
//! witness for every difference between the scopes that the steps use.

use tenmint::model::id::ApiKeyId;

/// The pairs of action and resource that some scopes cover.
pub type Reach = u128;

const ACTIONS: [&str; 5] = ["read", "write", "admin", "chat", "introspect"];

const RESOURCES: [&str; 24] = [
    "projects",
    "projects/alpha",
    "projects/alpha/x",
    "projects/alpha/x/y",
    "projects/beta",
    "projects/beta/x",
    "projects/z",
    "projects/z/x",
    "models/m",
    "models/m/x",
    "org/settings",
    "org/keys/k",
    "org/keys/own/k",
    "spaces/s0",
    "spaces/s0/x",
    "spaces/s1",
    "spaces/s1/x",
    "spaces/z/x",
    "space-management/s0/members/m",
    "space-management/s0/keys/own/k",
    "space-management/s1/members/m",
    "space-management/s1/keys/own/k",
    "space-management/z/keys/own/k",
    "installation/x",
];

/// Scopes that steps choose from.
pub const SCOPES: [&str; 14] = [
    "read:projects/*",
    "read:projects/alpha",
    "read:projects/alpha/*",
    "read:projects/?",
    "write:projects/alpha/*",
    "*:projects/beta/*",
    "admin:projects/*/x",
    "chat",
    "chat:models/*",
    "read:*",
    "*:*",
    "read:org/*",
    "read:spaces/s0/*",
    "write:spaces/s1/*",
];

/// What some scopes cover, each written as in a token.
pub fn reach<'s>(scopes: impl IntoIterator<Item = &'s str>) -> Reach {
    scopes.into_iter().fold(0, |all, scope| all | reach_of(scope))
}

fn reach_of(scope: &str) -> Reach {
    let (action, filter) = scope.split_once(':').unwrap_or((scope, "*"));
    let filter: Vec<&str> = filter.split('/').collect();
    let mut bits = 0;
    for (row, known) in ACTIONS.iter().enumerate() {
        for (column, resource) in RESOURCES.iter().enumerate() {
            let resource: Vec<&str> = resource.split('/').collect();
            if (action == "*" || action == *known) && selects(&filter, &resource) {
                bits |= 1 << (row * RESOURCES.len() + column);
            }
        }
    }
    bits
}

fn selects(filter: &[&str], resource: &[&str]) -> bool {
    match (filter, resource) {
        (["*"], [_, ..]) | (["?"], [_]) | ([], []) => true,
        ([one, filter @ ..], [other, resource @ ..]) => {
            (one == other || *one == "*" && !filter.is_empty()) && selects(filter, resource)
        }
        _ => false,
    }
}

/// An audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One of an organization's two; the first is its default.
    Api(usize, usize),
    /// One that takes tokens of all organizations.
    Shared,
    Management,
}

/// A role that is bound at a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    ReadOnly,
    Member,
    Admin,
    /// The one that the organization defined.
    Defined,
}

impl Role {
    fn in_organization(self, org: &Org) -> Vec<String> {
        let scopes = match self {
            Self::ReadOnly => vec!["read:org/*"],
            Self::Member => vec!["read:org/*", "write:org/keys/own/*"],
            Self::Admin => vec!["*:*"],
            Self::Defined => org.defined.clone(),
        };
        scopes.into_iter().map(str::to_owned).collect()
    }

    fn in_space(self, slug: &str) -> Vec<String> {
        let (actions, managing) = match self {
            Self::ReadOnly | Self::Defined => (vec!["read"], vec!["read:*"]),
            Self::Member => (vec!["read", "write"], vec!["read:*", "write:keys/own/*"]),
            Self::Admin => (vec!["read", "write", "admin"], vec!["*:*"]),
        };
        let of_space =
            |action: &str| [format!("{action}:spaces/{slug}"), format!("{action}:spaces/{slug}/*")];
        let to_manage = managing.into_iter().map(|scope| {
            let (action, filter) = scope.split_once(':').unwrap();
            format!("{action}:space-management/{slug}/{filter}")
        });
        actions.into_iter().flat_map(of_space).chain(to_manage).collect()
    }
}

#[derive(Debug, Clone, Default)]
pub struct Space {
    pub suspended: bool,
    pub deleted: bool,
}

#[derive(Debug, Clone)]
pub struct Org {
    pub suspended: bool,
    pub spaces: [Space; 2],
    /// What the role holds that it defined.
    pub defined: Vec<&'static str>,
}

/// A bot, or a person in one organization.
#[derive(Debug, Clone)]
pub struct Owner {
    pub id: String,
    pub org: usize,
    /// The space of a bot, whose keys are keys of it.
    pub space: Option<usize>,
    pub grants: Vec<&'static str>,
    pub org_role: Option<Role>,
    pub space_roles: [Option<Role>; 2],
    pub suspended: bool,
    pub gone: bool,
}

impl Owner {
    pub fn is_person(&self) -> bool {
        self.id.starts_with("usr_")
    }
}

/// A text that was shown, and when it stops.
#[derive(Debug, Clone)]
pub struct Text {
    pub text: String,
    pub end: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct Key {
    pub id: ApiKeyId,
    pub owner: usize,
    pub space: Option<usize>,
    pub scopes: Option<Vec<&'static str>>,
    pub audiences: Vec<Target>,
    pub expires_at: Option<i64>,
    /// How long it was made to live, in milliseconds.
    pub lifetime: Option<i64>,
    pub revoked: bool,
    pub texts: Vec<Text>,
}

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub scopes: Option<Vec<&'static str>>,
    pub target: Option<Target>,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Token { reach: Reach, target: Target, expires_at: i64 },
    Dead,
    WrongTarget,
    BeyondScope,
}

/// All there is, at a moment in milliseconds.
#[derive(Debug, Clone)]
pub struct Model {
    pub now: i64,
    pub orgs: Vec<Org>,
    pub owners: Vec<Owner>,
    pub keys: Vec<Key>,
    /// The one person is suspended in the whole installation.
    pub person_suspended: bool,
}

impl Model {
    /// What an owner holds: its grants, and its roles where they are bound.
    pub fn scopes_of(&self, owner: usize) -> Vec<String> {
        let owner = &self.owners[owner];
        let org = &self.orgs[owner.org];
        let mut held: Vec<String> = owner.grants.iter().map(|scope| (*scope).to_owned()).collect();
        held.extend(owner.org_role.iter().flat_map(|role| role.in_organization(org)));
        for (at, role) in owner.space_roles.iter().enumerate() {
            if let Some(role) = role.filter(|_| !org.spaces[at].deleted) {
                held.extend(role.in_space(&format!("s{at}")));
            }
        }
        held
    }

    pub fn held_by(&self, owner: usize) -> Reach {
        reach(self.scopes_of(owner).iter().map(String::as_str))
    }

    /// What a key may do: its scopes that its owner has too.
    pub fn effective(&self, key: &Key) -> Reach {
        let own = key.scopes.as_ref().map_or(Reach::MAX, |own| reach(own.iter().copied()));
        own & self.held_by(key.owner)
    }

    /// What comes of a request with one of the texts of a key.
    pub fn outcome(&self, key: &Key, text: &Text, asked: &Asked) -> Outcome {
        if self.is_dead(key, text) {
            return Outcome::Dead;
        }
        let Some(target) = self.target(key, asked) else { return Outcome::WrongTarget };
        // a token would not tell that its secret is in a grace
        if target == Target::Management && text.end.is_some() {
            return Outcome::WrongTarget;
        }
        let held = self.effective(key);
        let reach = asked.scopes.as_ref().map_or(held, |scopes| reach(scopes.iter().copied()));
        if held == 0 || reach & !held != 0 {
            return Outcome::BeyondScope;
        }
        let ends = [key.expires_at, text.end].into_iter().flatten().map(|end| end / 1000);
        let expires_at = ends.fold(self.now / 1000 + 600, i64::min);
        Outcome::Token { reach, target, expires_at }
    }

    fn is_dead(&self, key: &Key, text: &Text) -> bool {
        let is_over = |end: Option<i64>| end.is_some_and(|end| end <= self.now);
        let owner = &self.owners[key.owner];
        let org = &self.orgs[owner.org];
        key.revoked
            || is_over(key.expires_at)
            || is_over(text.end)
            || owner.suspended
            || owner.gone
            || owner.is_person() && self.person_suspended
            || org.suspended
            || key.space.is_some_and(|at| org.spaces[at].suspended || org.spaces[at].deleted)
    }

    fn target(&self, key: &Key, asked: &Asked) -> Option<Target> {
        let org = self.owners[key.owner].org;
        let named = &key.audiences;
        let by_default = || match named.as_slice() {
            [] => Some(Target::Api(org, 0)),
            named => named.iter().copied().find(|target| *target != Target::Management),
        };
        let target = asked.target.or_else(by_default)?;
        let takes_ours = match target {
            Target::Api(of, _) => of == org,
            Target::Shared | Target::Management => true,
        };
        (takes_ours && (named.is_empty() || named.contains(&target))).then_some(target)
    }

    pub fn is_active(&self, key: &Key) -> bool {
        !key.revoked && key.expires_at.is_none_or(|end| end > self.now)
    }

    /// A new secret; the old ones end now, or the last one after the grace.
    pub fn rotate(&mut self, key: usize, grace: i64, text: String) {
        let end = if grace == 0 { 0 } else { self.now + grace };
        for old in &mut self.keys[key].texts {
            old.end = Some(if old.end.is_some() { 0 } else { end });
        }
        self.keys[key].texts.push(Text { text, end: None });
    }

    /// A new key in place of an old one, which ends now or after the grace.
    pub fn refresh(&mut self, key: usize, grace: i64, new: (ApiKeyId, String, Option<i64>)) {
        let (id, text, expires_at) = new;
        let now = self.now;
        let old = &mut self.keys[key];
        let texts = vec![Text { text, end: None }];
        let lifetime = expires_at.map(|end| end - now);
        let new = Key { id, texts, expires_at, lifetime, ..old.clone() };
        if grace == 0 {
            old.revoked = true;
        } else {
            old.expires_at = Some(old.expires_at.map_or(now + grace, |end| end.min(now + grace)));
        }
        self.keys.push(new);
    }

    /// Scopes that are new to a service key are given to its bot too.
    pub fn rescope(&mut self, key: usize, scopes: Option<Vec<&'static str>>) {
        let owner = self.keys[key].owner;
        let before = reach(self.keys[key].scopes.iter().flatten().copied());
        if let Some(scopes) = &scopes
            && reach(scopes.iter().copied()) & !(self.held_by(owner) | before) != 0
        {
            self.owners[owner].grants.extend(scopes);
        }
        self.keys[key].scopes = scopes;
    }
}

#[test]
fn the_universe_tells_the_scopes_of_the_steps_apart() {
    assert!(ACTIONS.len() * RESOURCES.len() <= 128);
    for (at, scope) in SCOPES.iter().enumerate() {
        assert!(SCOPES[..at].iter().all(|other| reach([*other]) != reach([*scope])), "{scope}");
    }
    assert_eq!(reach(["read:projects/?", "read:projects/*/*"]), reach(["read:projects/*"]));
    assert_ne!(reach(["read:projects/alpha"]) & reach(["read:projects/*"]), 0);
}
