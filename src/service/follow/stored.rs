//! What a change that was stored says of itself, for a node that cannot read it back.

use crate::mint::Doubted;
use crate::model::id::OrgId;
use crate::model::owner::OwnerId;
use crate::store::changes::Subject;

/// A change that was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'c> {
    /// Its revision.
    pub(crate) revision: i64,
    /// What it touched.
    pub(crate) touched: &'c [Subject],
    /// The organization that it is of, if it is of one.
    pub(crate) org: Option<OrgId>,
}

impl Stored<'_> {
    /// What may not be served as it was.
    pub(super) fn doubted(&self) -> impl Iterator<Item = Doubted> {
        self.touched.iter().map(move |subject| doubted(*subject, self.org))
    }
}

/// A role, and a space that roles are bound in, bears on whoever has it in the organization. What bears on
/// APIs and on the installation may bear on all.
fn doubted(subject: Subject, org: Option<OrgId>) -> Doubted {
    match subject {
        Subject::ApiKey(id) => Doubted::ApiKey(id),
        Subject::Bot(id) => Doubted::Owner(OwnerId::Bot(id)),
        Subject::User(id) => Doubted::Owner(OwnerId::User(id)),
        Subject::Org(id) => Doubted::Org(id),
        Subject::Imported(_) => Doubted::NewApiKeys,
        Subject::Role(_) | Subject::Space(_) => org.map_or(Doubted::Everything, Doubted::Org),
        Subject::Installation
        | Subject::SigningKeys
        | Subject::Audience(_)
        | Subject::GatewayPolicy(_) => Doubted::Everything,
    }
}
