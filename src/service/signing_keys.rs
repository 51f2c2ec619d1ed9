//! Signing keys take turns: by schedule, when somebody asks, and at once when one has leaked.
//!
//! Every node looks for a step that is due, and takes it in a transaction that judges again: it does
//! not matter which node does, nor how many try, nor whether one dies half way.

use std::time::Duration;

use tenmint_verifier::{Action, Algorithm};
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Error, Result};
use crate::model::access::Actor;
use crate::model::audit::SideChange;
use crate::model::journal::Ended;
use crate::model::signing_key::{
    Kid, RotateSigningKey, ShownSigningKey, SigningKey, SigningKeyState,
};
use crate::model::signing_key_schedule::{RotationStep, newest_algorithm, standby_of};
use crate::model::time::Timestamp;
use crate::service::access::require_on_installation;
use crate::service::asks::Wrong;
use crate::service::call::{Call, Changed, Done, state};
use crate::service::follow::within;
use crate::service::signing_key_material::{brought_signing_key, new_signing_key};
use crate::service::{Service, random};
use crate::store::changes::Subject;
use crate::store::{Connection, Write, nodes, signing_keys};

/// How often a node looks for a step that is due.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// A look, with the steps that it finds due, that takes longer has failed.
const STEPS_TIMEOUT: Duration = Duration::from_secs(30);
/// Steps that one look takes: more come with the next.
const STEPS_AT_ONCE: usize = 8;
/// The part of the installation that these calls need a scope on.
const PART: &str = "signing-keys";

/// Who asks for a change of the signing keys.
#[derive(Debug, Clone, Copy)]
pub enum Asker<'c> {
    /// Whoever holds the database and the master key, on the machine of a node.
    Operator,
    /// A caller of the management API.
    Caller(&'c Call),
}

impl Asker<'_> {
    fn check(self) -> Result<()> {
        match self {
            Self::Operator => Ok(()),
            Self::Caller(call) => require_on_installation(&call.actor, &Action::Admin, PART),
        }
    }

    fn wrong(self) -> Wrong {
        match self {
            Self::Operator => Wrong::default(),
            Self::Caller(call) => call.wrong(),
        }
    }

    fn is_dry_run(self) -> bool {
        matches!(self, Self::Caller(call) if call.dry_run)
    }
}

impl Service {
    /// All signing keys, the oldest first: for an actor, or for the operator on the machine of a node.
    pub async fn list_signing_keys(&self, actor: Option<&Actor>) -> Result<Vec<ShownSigningKey>> {
        if let Some(actor) = actor {
            require_on_installation(actor, &Action::Read, PART)?;
        }
        let all = signing_keys::list(&mut *self.store.read().await?).await?;
        Ok(all.iter().map(|key| self.shown(key, &all)).collect())
    }

    /// Lets the standby sign as soon as verifiers can hold it, and every node publishes it: at once,
    /// if it was in the JWKS for long enough. Another algorithm takes another standby.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an algorithm that is none.
    pub async fn rotate_signing_key(
        &self,
        asker: Asker<'_>,
        ask: RotateSigningKey,
    ) -> Result<Changed<ShownSigningKey>> {
        asker.check()?;
        let mut wrong = asker.wrong();
        let algorithm = wrong.optional("algorithm", ask.algorithm, |name| algorithm_named(&name));
        let algorithm = wrong.finish(Some(algorithm))?;
        let all = signing_keys::list(&mut *self.store.read().await?).await?;
        let algorithm = algorithm.or(newest_algorithm(&all)).unwrap_or(self.installation.algorithm);
        // made before anything is locked, for the case that it is needed
        let spare = self.new_signing_key(algorithm).await?;
        let mut write = self.store.begin().await?;
        if let Asker::Caller(call) = asker
            && let Some(kid) = self.repeated(&mut write, call).await?
        {
            let all = signing_keys::list(&mut write).await?;
            return Ok(Changed::repeated(self.shown(find(&all, &kid)?, &all)));
        }
        let all = signing_keys::list(&mut write).await?;
        let (next, also) = match standby_of(&all).filter(|key| key.algorithm == algorithm) {
            Some(standby) => (standby, Vec::new()),
            None => (&spare, self.replace_standby(&mut write, &all, &spare).await?),
        };
        signing_keys::want(&mut write, &next.kid, self.clock.now()).await?;
        let before = self.shown(next, &all);
        let after = self.shown_as_stored(&mut write, &next.kid).await?;
        let done = keys_done("signing_key.rotate", after).was(before).also(also);
        let changed = self.finish_asked(write, asker, done).await?;
        self.with_due_steps(asker, changed).await
    }

    /// Withdraws a key at once: it leaves the JWKS, the feed tells verifiers that nothing it signed
    /// holds, and where it signed, the standby does from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a key that there never was.
    pub async fn withdraw_signing_key(
        &self,
        asker: Asker<'_>,
        kid: &str,
    ) -> Result<Changed<ShownSigningKey>> {
        asker.check()?;
        let now = self.clock.now();
        let all = signing_keys::list(&mut *self.store.read().await?).await?;
        // made before anything is locked, for the case that there is no standby
        let spare = self.new_signing_key(find(&all, kid)?.algorithm).await?;
        let mut write = self.store.begin().await?;
        let all = signing_keys::list(&mut write).await?;
        let before = find(&all, kid)?.clone();
        let shown = self.shown(&before, &all);
        let mut warnings = broken_by_withdrawal(before.state());
        signing_keys::withdraw(&mut write, &before.kid, now).await?;
        let mut also = Vec::new();
        if before.state() == SigningKeyState::Signing {
            let (change, warning) = self.stand_in(&mut write, &spare).await?;
            also.push(change);
            warnings.extend(warning);
        }
        let after = self.shown_as_stored(&mut write, &before.kid).await?;
        let done = keys_done("signing_key.withdraw", after).was(shown).also(also).warns(warnings);
        let revision = write.revision();
        let changed = self.finish_asked(write, asker, done).await?;
        if let Some(journal) = self.journal.as_ref().filter(|_| !asker.is_dry_run()) {
            // a node that follows this notes it too, where one runs
            let ended = Ended::SigningKey(before.kid.clone(), Some(before.fingerprint()));
            journal.note(revision, vec![ended]).await;
        }
        self.with_due_steps(asker, changed).await
    }

    /// Takes a private key that was made elsewhere as the standby, under a `kid` of its own where one
    /// is given. The standby of before has signed nothing, and leaves.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a text that holds no such key; [`Error::Conflict`] `signing_key_known`
    /// for a key or a `kid` that was here before.
    pub async fn import_signing_key(
        &self,
        pem: &[u8],
        kid: Option<&str>,
    ) -> Result<Changed<ShownSigningKey>> {
        let kid: Kid = match kid {
            Some(kid) => kid.parse().map_err(|cause| Error::invalid("kid", cause))?,
            None => Kid::from_random(random()?),
        };
        let fresh = brought_signing_key(kid, pem, &self.master_key, self.clock.now())?;
        let mut write = self.store.begin().await?;
        let all = signing_keys::list(&mut write).await?;
        refuse_known(&fresh, &all)?;
        let also = self.replace_standby(&mut write, &all, &fresh).await?;
        let after = self.shown_as_stored(&mut write, &fresh.kid).await?;
        let done = keys_done("signing_key.import", after).also(also);
        self.finish_asked(write, Asker::Operator, done).await
    }

    /// Looks for steps that are due, until it is dropped. A look that fails is tried again.
    pub async fn rotate_signing_keys(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(cause) = within(STEPS_TIMEOUT, Box::pin(self.take_due_steps())).await {
                tracing::warn!(%cause, "the signing keys cannot be looked after");
            }
        }
    }

    /// Takes the steps that are due.
    pub async fn take_due_steps(&self) -> Result<()> {
        for _ in 0..STEPS_AT_ONCE {
            let step = self.due_step(&mut *self.store.read().await?).await?;
            let Some(step) = step else { break };
            self.take(step).await?;
        }
        Ok(())
    }

    async fn due_step(&self, connection: &mut Connection) -> Result<Option<RotationStep>> {
        let (schedule, now) = (&self.schedule, self.clock.now());
        let all = signing_keys::list(connection).await?;
        let applied = nodes::applied_everywhere(connection, now - schedule.gone_after).await?;
        // where no node serves, none can lack a key
        Ok(schedule.next_step(&all, now, applied.unwrap_or(i64::MAX)))
    }

    /// Takes a step, unless it is not due any more by the time that nobody else can.
    async fn take(&self, step: RotationStep) -> Result<()> {
        let fresh = match step {
            RotationStep::Publish(algorithm) => Some(self.new_signing_key(algorithm).await?),
            _ => None,
        };
        let mut write = self.store.begin().await?;
        if self.due_step(&mut write).await?.as_ref() != Some(&step) {
            return Ok(());
        }
        let now = self.clock.now();
        let (action, kid) = match (step, fresh) {
            (RotationStep::Publish(_), Some(fresh)) => {
                self.insert_signing_key(&mut write, &fresh).await?;
                ("signing_key.publish", fresh.kid)
            }
            (RotationStep::Publish(_), None) => return Ok(()),
            (RotationStep::Promote(kid), _) => {
                signing_keys::promote(&mut write, &kid, now).await?;
                ("signing_key.sign", kid)
            }
            (RotationStep::Retire(kid), _) => {
                signing_keys::retire(&mut write, &kid, now).await?;
                ("signing_key.retire", kid)
            }
        };
        let after = self.shown_as_stored(&mut write, &kid).await?;
        self.finish_unasked(write, keys_done(action, after)).await?;
        tracing::info!(%kid, "{action}");
        Ok(())
    }

    /// The step that a change has made due is taken at once, where it can be; else a node does.
    async fn with_due_steps(
        &self,
        asker: Asker<'_>,
        mut changed: Changed<ShownSigningKey>,
    ) -> Result<Changed<ShownSigningKey>> {
        if asker.is_dry_run() {
            return Ok(changed);
        }
        // what was asked is done: it is not undone where more cannot be done or seen now
        match self.shown_after_due_steps(&changed.after.kid).await {
            Ok(after) => changed.after = after,
            Err(cause) => tracing::warn!(%cause, "the signing keys cannot be looked after"),
        }
        changed.warnings.extend(waits(&changed.after, self.clock.now()));
        Ok(changed)
    }

    async fn shown_after_due_steps(&self, kid: &str) -> Result<ShownSigningKey> {
        self.take_due_steps().await?;
        let all = signing_keys::list(&mut *self.store.read().await?).await?;
        Ok(self.shown(find(&all, kid)?, &all))
    }

    /// A key comes into the JWKS as the standby, and the one of before, which has signed nothing,
    /// leaves.
    async fn replace_standby(
        &self,
        write: &mut Write<'_>,
        all: &[SigningKey],
        fresh: &SigningKey,
    ) -> Result<Vec<SideChange>> {
        let mut also = Vec::new();
        while let Some(old) = standby_of(&signing_keys::list(write).await?).cloned() {
            if !signing_keys::retire(write, &old.kid, self.clock.now()).await? {
                break;
            }
            also.push(self.side_change("signing_key.retire", &old, all));
        }
        self.insert_signing_key(write, fresh).await?;
        also.push(self.side_change("signing_key.publish", fresh, all));
        Ok(also)
    }

    /// The standby signs from now on, or a spare key where there is none.
    async fn stand_in(
        &self,
        write: &mut Write<'_>,
        spare: &SigningKey,
    ) -> Result<(SideChange, Option<String>)> {
        let now = self.clock.now();
        let all = signing_keys::list(write).await?;
        let next = standby_of(&all).unwrap_or(spare).clone();
        if next.kid == spare.kid {
            self.insert_signing_key(write, spare).await?;
        }
        signing_keys::promote(write, &next.kid, now).await?;
        let young = next.published_at + self.schedule.publish_for > now;
        let warning = young.then(|| {
            format!(
                "{} signs from now on and came into the JWKS only at {}: a verifier that holds an \
                 older JWKS refuses its tokens until it fetches the JWKS again",
                next.kid, next.published_at
            )
        });
        Ok((self.side_change("signing_key.sign", &next, &all), warning))
    }

    fn side_change(
        &self,
        action: &'static str,
        key: &SigningKey,
        all: &[SigningKey],
    ) -> SideChange {
        let after = Some(state(&self.shown(key, all)));
        SideChange { action, object: key.kid.to_string(), organization: None, before: None, after }
    }

    /// Ends a change that somebody asked for.
    async fn finish_asked(
        &self,
        write: Write<'_>,
        asker: Asker<'_>,
        done: Done<ShownSigningKey>,
    ) -> Result<Changed<ShownSigningKey>> {
        match asker {
            Asker::Operator => self.finish_unasked(write, done).await,
            Asker::Caller(call) => self.finish(write, call, done).await,
        }
    }

    async fn new_signing_key(&self, algorithm: Algorithm) -> Result<SigningKey> {
        new_signing_key(algorithm, &self.master_key, self.clock.now()).await
    }

    async fn shown_as_stored(&self, write: &mut Write<'_>, kid: &Kid) -> Result<ShownSigningKey> {
        let all = signing_keys::list(write).await?;
        Ok(self.shown(find(&all, kid.as_str())?, &all))
    }

    fn shown(&self, key: &SigningKey, all: &[SigningKey]) -> ShownSigningKey {
        ShownSigningKey::of(key, self.schedule.due_at(key, all))
    }
}

fn keys_done(action: &'static str, after: ShownSigningKey) -> Done<ShownSigningKey> {
    let object = after.kid.clone();
    Done::on_installation(action, object, after).touches([Subject::SigningKeys])
}

fn find<'a>(all: &'a [SigningKey], kid: &str) -> Result<&'a SigningKey> {
    let found = all.iter().find(|key| key.kid.as_str() == kid);
    found.ok_or_else(|| Error::NotFound("such signing key".to_owned()))
}

fn algorithm_named(name: &str) -> std::result::Result<Algorithm, &'static str> {
    let found = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
    found.ok_or("write `ES256`, `RS256` or `EdDSA`")
}

/// A key that was here before is not new, whatever it is called now; nor is a `kid`.
fn refuse_known(fresh: &SigningKey, all: &[SigningKey]) -> Result<()> {
    let fingerprint = fresh.fingerprint();
    let known = all.iter().find(|key| key.kid == fresh.kid || key.fingerprint() == fingerprint);
    match known {
        None => Ok(()),
        Some(known) => Err(Error::Conflict(
            "signing_key_known",
            format!("the signing key {} is {} here", known.kid, known.state().as_str()),
        )),
    }
}

/// What a withdrawal breaks.
fn broken_by_withdrawal(state: SigningKeyState) -> Vec<String> {
    if !matches!(state, SigningKeyState::Signing | SigningKeyState::Retiring) {
        return Vec::new();
    }
    vec![
        "every token that it signed is void: within 2 s at verifiers that follow the feed, elsewhere \
         when they fetch the JWKS again; clients that hold one are refused until they fetch another"
            .to_owned(),
    ]
}

/// Why a key that is wanted does not sign yet.
fn waits(key: &ShownSigningKey, now: Timestamp) -> Option<String> {
    let due_at = key.due_at.filter(|_| key.state == SigningKeyState::Published)?;
    Some(if due_at > now {
        format!(
            "{} signs from {due_at} on: verifiers may hold a JWKS without it until then",
            key.kid
        )
    } else {
        format!("{} signs as soon as every node has published it", key.kid)
    })
}
