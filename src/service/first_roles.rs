//! The roles that a new bot gets where the request names none.

use tenmint_verifier::ScopeSet;

use crate::error::Result;
use crate::model::access::Actor;
use crate::model::bot::Bot;
use crate::model::owner::OwnerId;
use crate::model::role::{Level, RoleBinding, RolePlace, RoleRef};
use crate::model::space::Space;
use crate::service::api_keys::slug_of;
use crate::service::asks::Wrong;
use crate::service::new_api_key::union;
use crate::service::roles::role_to_bind;
use crate::store::Connection;

/// The roles that somebody asks for, by level; what is left out is the default.
pub(crate) struct FirstRoles<'a> {
    pub(crate) account: Option<&'a str>,
    pub(crate) organization: Option<&'a str>,
    pub(crate) space: Option<&'a str>,
}

impl FirstRoles<'_> {
    /// The bindings of a bot, and what they hold together. Noted as wrong is a role that the caller
    /// does not hold, one that is not there, and one of a space where the bot is in none.
    pub(crate) async fn bind(
        &self,
        connection: &mut Connection,
        actor: &Actor,
        (bot, space): (&Bot, Option<&Space>),
        wrong: &mut Wrong,
    ) -> Result<(Vec<RoleBinding>, Option<ScopeSet>)> {
        let owner = OwnerId::Bot(bot.id);
        let (mut bindings, mut held) = (Vec::new(), None);
        if self.space.is_some() && space.is_none() {
            wrong.checked::<(), _>("space_role", Err("name the space of the role too"));
        }
        for (place, role) in self.places(bot, space) {
            let field = match place.level() {
                Level::Account => "account_role",
                Level::Organization => "org_role",
                Level::Space => "space_role",
            };
            let at = (place, slug_of(space));
            let found = role_to_bind(connection, actor, (field, &role), at).await;
            let Some(Some((role, scopes))) = wrong.looked_up(field, found)? else { continue };
            held = union(held.as_ref(), scopes.as_ref());
            bindings.push(RoleBinding { owner, place, role });
        }
        Ok((bindings, held))
    }

    fn places(&self, bot: &Bot, space: Option<&Space>) -> Vec<(RolePlace, String)> {
        let or_default = |asked: Option<&str>, default: RoleRef| {
            asked.map_or_else(|| default.to_string(), ToOwned::to_owned)
        };
        let organization = RolePlace::Organization { organization: bot.org };
        let mut places = vec![(organization, or_default(self.organization, RoleRef::ReadOnly))];
        if let Some(space) = space {
            let place = RolePlace::Space { organization: bot.org, space: space.id };
            places.push((place, or_default(self.space, RoleRef::Member)));
        }
        // a member of the account holds nothing, so that there is nothing to bind
        places.extend(self.account.map(|role| (RolePlace::Account, role.to_owned())));
        places
    }
}
