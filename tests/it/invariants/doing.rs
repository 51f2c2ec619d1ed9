//! What a step does to the service, and what the model is told of it.

use tenmint::error::Result;
use tenmint::model::api_key::{CreateApiKey, EditApiKey, RefreshApiKey, RotateApiKey};
use tenmint::model::bot::EditBot;
use tenmint::model::role::{BindRole, EditRole};
use tenmint::model::user::CreateUser;
use tenmint::service::roles::BoundAt;

use crate::invariants::model::{Key, Owner, Role, Target, Text, reach};
use crate::invariants::steps::{Edit, Expires, New, Scopes, Step};
use crate::invariants::{Case, PERSON, milliseconds};

fn texts(scopes: &Scopes) -> Vec<String> {
    scopes.iter().map(|scope| (*scope).to_owned()).collect()
}

fn in_hours(hours: Option<u32>) -> Option<String> {
    hours.map(|hours| format!("{hours}h"))
}

impl Case<'_> {
    /// Does a step, and tells the model of it where the service did it. A dry run is told nothing.
    ///
    /// # Errors
    /// The service refused: the model stays as it is.
    pub async fn step(&mut self, step: Step, dry_run: bool) -> Result<()> {
        match step {
            Step::CreateWithBot { org, new, space, role } => {
                self.create_with_bot(org, new, (space, role), dry_run).await
            }
            Step::CreateOf { owner, new } => {
                let owner = owner % self.model.owners.len();
                self.create_of(owner, new, dry_run).await
            }
            Step::Wind { minutes } => {
                if !dry_run {
                    self.wind(minutes).await;
                }
                Ok(())
            }
            Step::Edit { key, edit } => self.edit(self.key(key)?, edit, dry_run).await,
            Step::Rotate { key, grace, force } => {
                self.rotate(self.key(key)?, grace, force, dry_run).await
            }
            Step::Refresh { key, grace, expires, by_holder } => {
                let key = self.key(key)?;
                self.refresh(key, grace, (expires, by_holder), dry_run).await
            }
            Step::End { key, delete } => self.end_key(self.key(key)?, delete, dry_run).await,
            owners_and_places => self.step_of_others(owners_and_places, dry_run).await,
        }
    }

    async fn create_with_bot(
        &mut self,
        org: usize,
        new: New,
        (space, role): (Option<usize>, Option<Role>),
        dry_run: bool,
    ) -> Result<()> {
        let call = self.call(org, dry_run);
        let audiences = self.of_org(&new.audiences, org);
        let ask = CreateApiKey {
            space: space.map(|at| format!("s{at}")),
            org_role: Some(role.map_or("none".to_owned(), |role| self.name_of(role))),
            ..self.ask(&new, &audiences)
        };
        let created = self.created(&call, ask).await?;
        let Some((api_key, text)) = created else { return Ok(()) };
        let mut space_roles = [None; 2];
        if let Some(at) = space {
            space_roles[at] = Some(Role::Member);
        }
        self.model.owners.push(Owner {
            id: api_key.owner.to_string(),
            org,
            space,
            grants: new.scopes.clone().unwrap_or_default(),
            org_role: role,
            space_roles,
            suspended: false,
            gone: false,
        });
        self.has_key(api_key.id, text, self.model.owners.len() - 1, (new, audiences));
        Ok(())
    }

    async fn create_of(&mut self, owner: usize, new: New, dry_run: bool) -> Result<()> {
        let of = self.model.owners[owner].clone();
        let audiences = self.of_org(&new.audiences, of.org);
        let mut ask = self.ask(&new, &audiences);
        // a person makes keys for itself, with what it holds
        let call = if of.is_person() {
            self.call_of(owner, dry_run)
        } else {
            ask.bot = Some(of.id.clone());
            self.call(of.org, dry_run)
        };
        let Some((api_key, text)) = self.created(&call, ask).await? else { return Ok(()) };
        let scopes = new.scopes.iter().flatten().copied();
        assert_eq!(reach(scopes) & !self.model.held_by(owner), 0, "beyond its owner: {new:?}");
        self.has_key(api_key.id, text, owner, (new, audiences));
        Ok(())
    }

    fn ask(&self, new: &New, audiences: &[Target]) -> CreateApiKey {
        let audiences: Vec<String> = audiences.iter().map(|target| self.uri(*target)).collect();
        CreateApiKey {
            name: Some("random".to_owned()),
            scopes: new.scopes.as_ref().map(texts),
            audiences: Some(audiences).filter(|audiences| !audiences.is_empty()),
            expires_at: in_hours(new.hours),
            ..CreateApiKey::default()
        }
    }

    fn has_key(
        &mut self,
        id: tenmint::model::id::ApiKeyId,
        text: String,
        owner: usize,
        (new, audiences): (New, Vec<Target>),
    ) {
        let space = self.model.owners[owner].space;
        let lifetime = new.hours.map(|hours| milliseconds(hours * 60));
        self.model.keys.push(Key {
            id,
            owner,
            space,
            scopes: new.scopes,
            audiences,
            expires_at: lifetime.map(|lifetime| self.model.now + lifetime),
            lifetime,
            revoked: false,
            texts: vec![Text { text, end: None }],
        });
    }

    async fn edit(&mut self, key: usize, edit: Edit, dry_run: bool) -> Result<()> {
        let org = self.org_of(key);
        let has = self.model.keys[key].scopes.clone();
        let scopes = if edit.repeats { Some(has) } else { edit.scopes };
        let audiences = edit.audiences.map(|targets| self.of_org(&targets, org));
        let uris = |targets: &Vec<Target>| {
            let uris: Vec<String> = targets.iter().map(|target| self.uri(*target)).collect();
            Some(uris).filter(|uris| !uris.is_empty())
        };
        let ask = EditApiKey {
            scopes: scopes.as_ref().map(|scopes| scopes.as_ref().map(texts)),
            audiences: audiences.as_ref().map(uris),
            expires_at: in_hours(edit.hours),
            ..EditApiKey::default()
        };
        let (call, id) = (self.call(org, dry_run), self.model.keys[key].id);
        self.server.service.edit_api_key(&call, &id, ask).await?;
        let before = self.model.keys[key].expires_at;
        let end = edit.hours.map(|hours| self.model.now + milliseconds(hours * 60));
        let is_later = end.zip(before).is_some_and(|(end, before)| end > before);
        assert!(!is_later, "an expiry came later");
        if dry_run {
            return Ok(());
        }
        if let Some(scopes) = scopes {
            self.model.rescope(key, scopes);
        }
        let key = &mut self.model.keys[key];
        key.audiences = audiences.unwrap_or_else(|| key.audiences.clone());
        key.expires_at = end.or(key.expires_at);
        Ok(())
    }

    async fn rotate(&mut self, key: usize, grace: u32, force: bool, dry_run: bool) -> Result<()> {
        let (call, id) = (self.call(self.org_of(key), dry_run), self.model.keys[key].id);
        let ask = RotateApiKey { grace_period_seconds: Some(grace * 60), force: Some(force) };
        let again = (call.clone(), ask.clone());
        let rotated = self.server.service.rotate_api_key(&call, &id, ask).await?;
        assert!(self.model.is_active(&self.model.keys[key]), "a dead key was rotated");
        let Some(text) = self.shown_once(rotated.after) else { return Ok(()) };
        let repeated = self.server.service.rotate_api_key(&again.0, &id, again.1).await?;
        assert!(repeated.after.text.is_none(), "a text was shown twice");
        self.model.rotate(key, milliseconds(grace), text);
        Ok(())
    }

    async fn refresh(
        &mut self,
        key: usize,
        grace: u32,
        (expires, by_holder): (Expires, bool),
        dry_run: bool,
    ) -> Result<()> {
        let old = self.model.keys[key].clone();
        let call = if by_holder {
            self.call_of(old.owner, dry_run)
        } else {
            self.call(self.org_of(key), dry_run)
        };
        let ask = RefreshApiKey {
            grace_period_seconds: Some(grace * 60),
            expires_at: match expires {
                Expires::Unsaid => None,
                Expires::Never => Some("never".to_owned()),
                Expires::In(hours) => in_hours(Some(hours)),
            },
        };
        let again = (call.clone(), ask.clone());
        let refreshed = self.server.service.refresh_api_key(&call, &old.id, ask).await?;
        assert!(self.model.is_active(&old), "a dead key was refreshed");
        let end = match expires {
            Expires::In(hours) => Some(self.model.now + milliseconds(hours * 60)),
            Expires::Never => None,
            Expires::Unsaid => {
                assert!(old.expires_at.is_none(), "a lifetime was lengthened by omission");
                None
            }
        };
        let may_lengthen =
            !by_holder || self.model.held_by(old.owner) & reach(["admin:org/keys/*"]) != 0;
        let latest = old.lifetime.map(|lifetime| self.model.now + lifetime);
        let is_within = latest.is_none_or(|latest| end.is_some_and(|end| end <= latest));
        assert!(is_within || may_lengthen, "a refreshed key outlives what the old one was made to");
        let id = refreshed.after.api_key.id;
        let Some(text) = self.shown_once(refreshed.after) else { return Ok(()) };
        let repeated = self.server.service.refresh_api_key(&again.0, &old.id, again.1).await?;
        assert!(repeated.after.text.is_none() && repeated.after.api_key.id == id, "made twice");
        self.model.refresh(key, milliseconds(grace), (id, text, end));
        Ok(())
    }

    async fn end_key(&mut self, key: usize, delete: bool, dry_run: bool) -> Result<()> {
        let (call, id) = (self.call(self.org_of(key), dry_run), self.model.keys[key].id);
        let service = &self.server.service;
        if delete {
            service.delete_api_key(&call, &id).await?;
        } else {
            service.revoke_api_key(&call, &id).await?;
        }
        self.model.keys[key].revoked |= !dry_run;
        Ok(())
    }

    async fn step_of_others(&mut self, step: Step, dry_run: bool) -> Result<()> {
        match step {
            Step::SuspendOwner { owner, suspend } => {
                self.suspend_owner(owner % self.model.owners.len(), suspend, dry_run).await
            }
            Step::RemoveOwner { owner } => {
                self.remove_owner(owner % self.model.owners.len(), dry_run).await
            }
            Step::WelcomeBack { owner } => {
                self.welcome_back(owner % self.model.owners.len(), dry_run).await
            }
            Step::SuspendPerson { suspend } => {
                let (call, id) = (self.call(0, dry_run), self.person);
                self.server.service.suspend_person(&call, &id, suspend).await?;
                self.model.person_suspended =
                    if dry_run { self.model.person_suspended } else { suspend };
                Ok(())
            }
            Step::Bind { owner, space, role } => {
                self.bind(owner % self.model.owners.len(), space, role, dry_run).await
            }
            places => self.step_of_places(places, dry_run).await,
        }
    }

    async fn suspend_owner(&mut self, owner: usize, suspend: bool, dry_run: bool) -> Result<()> {
        let of = &self.model.owners[owner];
        let (call, service) = (self.call(of.org, dry_run), &self.server.service);
        if of.is_person() {
            service.suspend_user(&call, &of.id, suspend).await?;
        } else {
            service.suspend_bot(&call, &of.id, suspend).await?;
        }
        if !dry_run {
            self.model.owners[owner].suspended = suspend;
        }
        Ok(())
    }

    async fn remove_owner(&mut self, owner: usize, dry_run: bool) -> Result<()> {
        let of = &self.model.owners[owner];
        let (call, service) = (self.call(of.org, dry_run), &self.server.service);
        if of.is_person() {
            service.delete_user(&call, &of.id).await?;
        } else {
            service.delete_bot(&call, &of.id).await?;
        }
        if !dry_run {
            // a person who comes back has none of what it had
            let of = &mut self.model.owners[owner];
            (of.gone, of.org_role, of.space_roles) = (true, None, [None; 2]);
            let is_person = of.is_person();
            for key in self.model.keys.iter_mut().filter(|key| is_person && key.owner == owner) {
                key.revoked = true;
            }
        }
        Ok(())
    }

    async fn welcome_back(&mut self, owner: usize, dry_run: bool) -> Result<()> {
        let of = &self.model.owners[owner];
        if !of.is_person() {
            return Ok(());
        }
        let ask = CreateUser { email: Some(PERSON.to_owned()), ..CreateUser::default() };
        self.server.service.create_user(&self.call(of.org, dry_run), ask).await?;
        if !dry_run {
            let of = &mut self.model.owners[owner];
            (of.gone, of.suspended, of.org_role) = (false, false, Some(Role::Member));
        }
        Ok(())
    }

    async fn bind(
        &mut self,
        owner: usize,
        space: Option<usize>,
        role: Option<Role>,
        dry_run: bool,
    ) -> Result<()> {
        let of = self.model.owners[owner].clone();
        let call = self.call(of.org, dry_run);
        let slug = space.map(|at| format!("s{at}"));
        let place = slug.as_deref().map_or(BoundAt::Organization, BoundAt::Space);
        let at = (of.id.as_str(), place);
        match role {
            Some(role) => {
                let ask = BindRole { role: Some(self.name_of(role)) };
                self.server.service.bind_role(&call, at, ask).await?;
            }
            None => drop(self.server.service.unbind_role(&call, at).await?),
        }
        if !dry_run {
            let of = &mut self.model.owners[owner];
            match space {
                Some(at) => of.space_roles[at] = role,
                None => of.org_role = role,
            }
        }
        Ok(())
    }

    async fn step_of_places(&mut self, step: Step, dry_run: bool) -> Result<()> {
        let service = &self.server.service;
        match step {
            Step::SuspendSpace { org, space, suspend } => {
                let (call, slug) = (self.call(org, dry_run), format!("s{space}"));
                service.suspend_space(&call, &slug, suspend).await?;
                if !dry_run {
                    self.model.orgs[org].spaces[space].suspended = suspend;
                }
            }
            Step::DeleteSpace { org, space } => {
                service.delete_space(&self.call(org, dry_run), &format!("s{space}")).await?;
                if !dry_run {
                    self.model.orgs[org].spaces[space].deleted = true;
                    let owners = self.model.owners.iter_mut();
                    for bot in owners.filter(|of| of.org == org && of.space == Some(space)) {
                        (bot.gone, bot.org_role, bot.space_roles) = (true, None, [None; 2]);
                    }
                }
            }
            Step::SuspendOrg { org, suspend } => {
                let name = self.orgs[org].to_string();
                service.suspend_org(&self.call(org, dry_run), &name, suspend).await?;
                if !dry_run {
                    self.model.orgs[org].suspended = suspend;
                }
            }
            Step::EditGrants { owner, grants } => {
                let of = owner % self.model.owners.len();
                let (id, org) = (&self.model.owners[of].id, self.model.owners[of].org);
                let ask = EditBot { grants: Some(texts(&grants)), ..EditBot::default() };
                service.edit_bot(&self.call(org, dry_run), id, ask).await?;
                if !dry_run {
                    self.model.owners[of].grants = grants;
                }
            }
            Step::EditRole { org, scopes } => {
                let ask = EditRole { scopes: Some(texts(&scopes)), ..EditRole::default() };
                service.edit_role(&self.call(org, dry_run), &self.roles[org], ask).await?;
                if !dry_run {
                    self.model.orgs[org].defined = scopes;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
