//! What can happen, chosen at random.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::invariants::model::{Role, SCOPES, Target};

/// Scopes that a role of an organization may hold.
const DEFINED: [&str; 4] =
    ["read:projects/*", "write:projects/alpha/*", "chat:models/*", "read:org/*"];

pub type Scopes = Vec<&'static str>;

/// One step. Numbers choose among what there is, so that every one of them means something.
#[derive(Debug, Clone)]
pub enum Step {
    CreateWithBot { org: usize, new: New, space: Option<usize>, role: Option<Role> },
    CreateOf { owner: usize, new: New },
    Edit { key: usize, edit: Edit },
    Rotate { key: usize, grace: u32, force: bool },
    Refresh { key: usize, grace: u32, expires: Expires, by_holder: bool },
    End { key: usize, delete: bool },
    SuspendOwner { owner: usize, suspend: bool },
    RemoveOwner { owner: usize },
    WelcomeBack { owner: usize },
    SuspendPerson { suspend: bool },
    SuspendSpace { org: usize, space: usize, suspend: bool },
    DeleteSpace { org: usize, space: usize },
    SuspendOrg { org: usize, suspend: bool },
    Bind { owner: usize, space: Option<usize>, role: Option<Role> },
    EditGrants { owner: usize, grants: Scopes },
    EditRole { org: usize, scopes: Scopes },
    Wind { minutes: u32 },
}

/// A key as it is asked for.
#[derive(Debug, Clone)]
pub struct New {
    pub scopes: Option<Scopes>,
    pub audiences: Vec<Target>,
    pub hours: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Edit {
    pub scopes: Option<Option<Scopes>>,
    /// In place of them, those that the key has.
    pub repeats: bool,
    pub audiences: Option<Vec<Target>>,
    pub hours: Option<u32>,
}

/// What is said about the expiry of a replacement.
#[derive(Debug, Clone, Copy)]
pub enum Expires {
    Unsaid,
    Never,
    In(u32),
}

fn scopes() -> impl Strategy<Value = Scopes> {
    vec(select(SCOPES.as_slice()), 1..4)
}

fn audiences() -> impl Strategy<Value = Vec<Target>> {
    // of one's own organization: 9 is put right when it is known which that is
    let one =
        select(vec![Target::Api(9, 0), Target::Api(9, 1), Target::Shared, Target::Management]);
    prop_oneof![3 => Just(Vec::new()), 2 => vec(one, 1..3)]
}

fn hours() -> impl Strategy<Value = Option<u32>> {
    option::of(1..6_u32)
}

fn new() -> impl Strategy<Value = New> {
    (option::weighted(0.7, scopes()), audiences(), hours())
        .prop_map(|(scopes, audiences, hours)| New { scopes, audiences, hours })
}

fn role() -> impl Strategy<Value = Role> {
    select(vec![Role::ReadOnly, Role::Member, Role::Admin, Role::Defined])
}

fn expires() -> impl Strategy<Value = Expires> {
    prop_oneof![Just(Expires::Unsaid), Just(Expires::Never), (1..8_u32).prop_map(Expires::In)]
}

/// Minutes of grace, none most often.
fn grace() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..90_u32]
}

/// Any step, the ones that make and change keys most often.
pub fn step() -> impl Strategy<Value = Step> {
    let (some, yes) = (any::<usize>, any::<bool>);
    let (org, space) = (|| 0..2_usize, || 0..2_usize);
    let edit_scopes = (option::of(option::weighted(0.8, scopes())), prop::bool::weighted(0.2));
    let edit = (edit_scopes, option::of(audiences()), hours()).prop_map(
        |((scopes, repeats), audiences, hours)| Edit { scopes, repeats, audiences, hours },
    );
    prop_oneof![
        5 => (org(), new(), option::weighted(0.3, space()), option::weighted(0.3, role()))
            .prop_map(|(org, new, space, role)| Step::CreateWithBot { org, new, space, role }),
        4 => (some(), new()).prop_map(|(owner, new)| Step::CreateOf { owner, new }),
        5 => (some(), edit).prop_map(|(key, edit)| Step::Edit { key, edit }),
        4 => (some(), grace(), yes())
            .prop_map(|(key, grace, force)| Step::Rotate { key, grace, force }),
        4 => (some(), grace(), expires(), yes()).prop_map(
            |(key, grace, expires, by_holder)| Step::Refresh { key, grace, expires, by_holder }
        ),
        1 => (some(), yes()).prop_map(|(key, delete)| Step::End { key, delete }),
        2 => (some(), yes()).prop_map(|(owner, suspend)| Step::SuspendOwner { owner, suspend }),
        1 => some().prop_map(|owner| Step::RemoveOwner { owner }),
        1 => some().prop_map(|owner| Step::WelcomeBack { owner }),
        1 => yes().prop_map(|suspend| Step::SuspendPerson { suspend }),
        2 => (org(), space(), yes())
            .prop_map(|(org, space, suspend)| Step::SuspendSpace { org, space, suspend }),
        2 => (org(), space()).prop_map(|(org, space)| Step::DeleteSpace { org, space }),
        1 => (org(), yes()).prop_map(|(org, suspend)| Step::SuspendOrg { org, suspend }),
        7 => (some(), option::weighted(0.4, space()), option::weighted(0.6, role()))
            .prop_map(|(owner, space, role)| Step::Bind { owner, space, role }),
        3 => (some(), vec(select(SCOPES.as_slice()), 0..3))
            .prop_map(|(owner, grants)| Step::EditGrants { owner, grants }),
        2 => (org(), vec(select(DEFINED.as_slice()), 1..3))
            .prop_map(|(org, scopes)| Step::EditRole { org, scopes }),
        3 => (1..150_u32).prop_map(|minutes| Step::Wind { minutes }),
    ]
}
