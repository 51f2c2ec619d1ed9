//! How signing keys take turns: which step is due, judged by what is stored and by how far all nodes
//! have come. Whoever takes the step judges again in the transaction that stores it.

use std::time::Duration;

use tenmint_verifier::Algorithm;

use crate::model::signing_key::{Kid, SigningKey, SigningKeyState};
use crate::model::time::Timestamp;

/// The shortest time that a key is in the JWKS before it signs: verifiers in the field hold a JWKS for
/// hours.
pub const SHORTEST_PUBLICATION: Duration = Duration::from_hours(2);
/// The time that a key is in the JWKS after the last of its tokens has ended.
const AFTER_THE_LAST_TOKEN: Duration = Duration::from_hours(2);

/// A node that was not seen for longer than it may serve without its database, and for this time
/// besides, serves no more.
const NODE_MARGIN: Duration = Duration::from_mins(1);

/// When signing keys take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationSchedule {
    /// How long a key signs; nothing where it does until a rotation is asked for.
    pub every: Option<Duration>,
    /// How long a key is in the JWKS before it signs.
    pub publish_for: Duration,
    /// How long a key is in the JWKS after it has signed.
    pub retire_for: Duration,
    /// How long a node may serve after it was last seen.
    pub gone_after: Duration,
}

impl RotationSchedule {
    /// The schedule of an installation whose tokens live so long at most: a key is published a day
    /// before it signs, and signs for 90 days.
    pub fn for_lifetime(token_lifetime: Duration) -> Self {
        Self {
            every: Some(Duration::from_hours(90 * 24)),
            publish_for: Duration::from_hours(24),
            retire_for: AFTER_THE_LAST_TOKEN + token_lifetime,
            gone_after: NODE_MARGIN,
        }
    }

    /// The same, where a node goes on for so long without its database: it may sign with a key for so long
    /// after others have promoted the next one.
    #[must_use]
    pub fn with_outages_of(self, serve_for: Duration) -> Self {
        let beyond = serve_for.saturating_sub(AFTER_THE_LAST_TOKEN);
        let (retire_for, gone_after) = (self.retire_for + beyond, serve_for + NODE_MARGIN);
        Self { retire_for, gone_after, ..self }
    }

    /// The moment before which a key does not sign; nothing where no rotation to it is planned.
    pub fn due_at(&self, key: &SigningKey, all: &[SigningKey]) -> Option<Timestamp> {
        if key.state() != SigningKeyState::Published {
            return None;
        }
        let by_schedule = || {
            let current = signing_key_of(all).filter(|_| is_standby(key, all))?;
            Some(current.signing_at? + self.every?)
        };
        let wanted_at = key.wanted_at.or_else(by_schedule)?;
        Some(wanted_at.max(key.published_at + self.publish_for))
    }

    /// The next step, if one is due. Every node that may still serve has taken in the revision
    /// `applied_everywhere`: a key that one of them does not publish yet must not sign.
    pub fn next_step(
        &self,
        all: &[SigningKey],
        now: Timestamp,
        applied_everywhere: i64,
    ) -> Option<RotationStep> {
        self.retiring_due(all, now)
            .or_else(|| self.promotion_due(all, now, applied_everywhere))
            .or_else(|| publication_due(all))
    }

    fn retiring_due(&self, all: &[SigningKey], now: Timestamp) -> Option<RotationStep> {
        in_state(all, SigningKeyState::Retiring)
            .find(|key| key.retiring_at.is_some_and(|since| since + self.retire_for <= now))
            .map(|key| RotationStep::Retire(key.kid.clone()))
    }

    fn promotion_due(
        &self,
        all: &[SigningKey],
        now: Timestamp,
        applied_everywhere: i64,
    ) -> Option<RotationStep> {
        let next = standby_of(all)?;
        // without a key that signs no client gets anything, whatever verifiers hold
        let is_urgent = signing_key_of(all).is_none();
        let is_due = self.due_at(next, all).is_some_and(|due_at| due_at <= now)
            && next.published_revision <= applied_everywhere;
        (is_urgent || is_due).then(|| RotationStep::Promote(next.kid.clone()))
    }
}

/// A step that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RotationStep {
    /// A standby of this algorithm comes into the JWKS.
    Publish(Algorithm),
    /// The standby signs from now on, and the key before it no more.
    Promote(Kid),
    /// A key leaves the JWKS: no token of it lives.
    Retire(Kid),
}

/// There is always a standby, so that an emergency finds verifiers prepared.
fn publication_due(all: &[SigningKey]) -> Option<RotationStep> {
    let algorithm = newest_algorithm(all)?;
    standby_of(all).is_none().then_some(RotationStep::Publish(algorithm))
}

/// The algorithm of the key that was made last.
pub fn newest_algorithm(all: &[SigningKey]) -> Option<Algorithm> {
    let newest = all.iter().max_by_key(|key| (key.published_revision, key.published_at))?;
    Some(newest.algorithm)
}

/// The key that signs.
pub fn signing_key_of(all: &[SigningKey]) -> Option<&SigningKey> {
    in_state(all, SigningKeyState::Signing).max_by_key(|key| key.signing_at)
}

/// The key that signs next.
pub fn standby_of(all: &[SigningKey]) -> Option<&SigningKey> {
    in_state(all, SigningKeyState::Published).min_by_key(|key| key.published_at)
}

fn is_standby(key: &SigningKey, all: &[SigningKey]) -> bool {
    standby_of(all).is_some_and(|standby| standby.kid == key.kid)
}

fn in_state(all: &[SigningKey], state: SigningKeyState) -> impl Iterator<Item = &SigningKey> {
    all.iter().filter(move |key| key.state() == state)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn schedule() -> RotationSchedule {
        RotationSchedule {
            every: Some(240 * HOUR),
            publish_for: 24 * HOUR,
            retire_for: 3 * HOUR,
            gone_after: HOUR,
        }
    }

    /// A key that was published at the start, under revision 7.
    fn key(name: &str) -> SigningKey {
        let halves = (String::new(), "sealed".to_owned());
        let key = SigningKey::published(name.parse().unwrap(), Algorithm::Es256, halves, START);
        SigningKey { published_revision: 7, ..key }
    }

    fn signing(name: &str) -> SigningKey {
        SigningKey { signing_at: Some(START), ..key(name) }
    }

    fn promote(name: &str) -> RotationStep {
        RotationStep::Promote(name.parse().unwrap())
    }

    #[test]
    fn a_key_signs_when_its_turn_has_come() {
        let all = [signing("a"), key("b")];
        let turn = START + 240 * HOUR;
        assert_eq!(schedule().next_step(&all, turn - Duration::from_millis(1), 7), None);
        assert_eq!(schedule().next_step(&all, turn, 7), Some(promote("b")));
        let never = RotationSchedule { every: None, ..schedule() };
        assert_eq!(never.next_step(&all, START + 10_000 * HOUR, 7), None);
        assert_eq!(never.due_at(&all[1], &all), None);
    }

    #[test]
    fn a_key_that_is_wanted_signs_when_it_was_published_long_enough() {
        let wanted = SigningKey { wanted_at: Some(START + HOUR), ..key("b") };
        let all = [signing("a"), wanted];
        assert_eq!(schedule().due_at(&all[1], &all), Some(START + 24 * HOUR));
        assert_eq!(schedule().next_step(&all, START + 23 * HOUR, 7), None);
        assert_eq!(schedule().next_step(&all, START + 24 * HOUR, 7), Some(promote("b")));
    }

    #[test]
    fn a_key_never_signs_before_every_node_has_published_it() {
        let all = [signing("a"), key("b")];
        assert_eq!(schedule().next_step(&all, START + 9_000 * HOUR, 6), None);
        assert_eq!(schedule().next_step(&all, START + 9_000 * HOUR, 7), Some(promote("b")));
    }

    #[test]
    fn without_a_key_that_signs_the_standby_does_at_once() {
        assert_eq!(schedule().next_step(&[key("b")], START, 0), Some(promote("b")));
    }

    #[test]
    fn a_key_leaves_the_jwks_when_the_last_of_its_tokens_has_long_ended() {
        let retiring = SigningKey { retiring_at: Some(START + HOUR), ..signing("old") };
        let all = [retiring, SigningKey { signing_at: Some(START + HOUR), ..key("a") }, key("b")];
        assert_eq!(
            schedule().next_step(&all, START + 4 * HOUR - Duration::from_millis(1), 7),
            None
        );
        let retire = RotationStep::Retire("old".parse().unwrap());
        assert_eq!(schedule().next_step(&all, START + 4 * HOUR, 7), Some(retire));
    }

    #[test]
    fn there_is_always_a_standby_of_the_newest_algorithm() {
        let publish = |all: &[SigningKey]| schedule().next_step(all, START, 7);
        assert_eq!(publish(&[signing("a")]), Some(RotationStep::Publish(Algorithm::Es256)));
        let newer = SigningKey {
            algorithm: Algorithm::EdDsa,
            published_revision: 9,
            withdrawn_at: Some(START),
            ..key("b")
        };
        assert_eq!(publish(&[signing("a"), newer]), Some(RotationStep::Publish(Algorithm::EdDsa)));
        assert_eq!(publish(&[]), None, "an installation begins with keys, or has none");
    }

    #[test]
    fn a_clock_that_goes_back_brings_no_step_and_undoes_none() {
        let all = [signing("a"), key("b")];
        assert_eq!(schedule().next_step(&all, START - 1_000 * HOUR, 7), None);
        assert_eq!(signing_key_of(&all).unwrap().kid.as_str(), "a");
    }
}
