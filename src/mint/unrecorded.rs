//! What was signed, and is had when its record is there.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tenmint_verifier::ScopeSet;

use crate::mint::ledger::Receipt;
use crate::mint::quotas::{Permit, RateLimit};
use crate::mint::usage::outcome_of;
use crate::mint::{Refused, UsageCounters, Used};
use crate::model::time::Timestamp;

/// A token that was signed, or the answer that shows it, which must not leave before its fact is on record.
#[derive(Debug)]
#[must_use = "the token is had by waiting for its record"]
pub struct Unrecorded<'m, T> {
    /// Until it is had.
    pub(super) held: Option<T>,
    pub(super) receipt: Receipt,
    /// Goes back where the token never leaves.
    pub(super) permit: Option<Permit<'m>>,
    /// The use of the key, to be counted once it is known what comes of it.
    pub(super) used: Option<Used<'m>>,
    pub(super) usage: &'m UsageCounters,
    pub(super) now: Timestamp,
}

impl<'m, T> Unrecorded<'m, T> {
    /// The same with what is made of it, and of which nothing else may leave. Whoever waits has less to hold, and
    /// less to do then, when what it was made of is no longer in the nearest cache.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Unrecorded<'m, U> {
        let Self { held, receipt, permit, used, usage, now } = self;
        Unrecorded { held: held.map(make), receipt, permit, used, usage, now }
    }

    /// What is held, where the fact is on record. Only then it counts, for the quota and as a token issued.
    fn settled(&mut self, recorded: Result<(), Refused>) -> Result<T, Refused> {
        let outcome = outcome_of(&recorded);
        if let (Some(used), Some(outcome)) = (self.used.take(), outcome) {
            self.usage.count(&Used { outcome, ..used }, self.now);
        }
        recorded?;
        if let Some(permit) = self.permit.take() {
            permit.used();
        }
        self.held.take().ok_or(Refused::Unavailable)
    }
}

/// Waiting for its record gives what is held, or [`Refused::Unavailable`] where it cannot be recorded. Written
/// out, since an `async fn` would move it twice.
impl<T: Unpin> Future for Unrecorded<'_, T> {
    type Output = Result<T, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let recorded = ready!(pin!(&mut self.receipt).poll(context));
        Poll::Ready(self.settled(recorded))
    }
}

/// A token that was issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// The JWT.
    pub access_token: String,
    /// The seconds it lives.
    pub expires_in: u64,
    /// Its scopes, in the client's own spelling if it asked for some.
    pub scope: ScopeSet,
    /// Where the quota of the key stands, if it has one.
    pub rate_limit: Option<RateLimit>,
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::mint::KeptCaller;
    use crate::mint::ledger::Ledger;
    use crate::model::id::{ApiKeyId, OrgId};
    use crate::model::ledger::{Fact, LedgerMode};
    use crate::model::token_id::{ChainId, TokenId};
    use crate::model::usage::Outcome;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn unrecorded<'m>(ledger: &Ledger, usage: &'m UsageCounters) -> Unrecorded<'m, &'static str> {
        let api_key = ApiKeyId::from_random([1; 16]);
        let fact = Fact {
            token_id: TokenId::new(NOW, ledger.chain(), [1; 7]),
            api_key,
            audiences: &[],
            scope: "read:a",
            lifetime: 600,
            address: None,
        };
        let receipt = ledger.append(&fact).unwrap();
        let (org, from) = (OrgId::from_random([1; 16]), KeptCaller::default());
        let used = Some(Used { api_key, org, outcome: Outcome::Issued, from });
        Unrecorded { held: Some("a token"), receipt, permit: None, used, usage, now: NOW }
    }

    fn poll<T: Unpin>(unrecorded: &mut Unrecorded<'_, T>) -> Poll<Result<T, Refused>> {
        pin!(unrecorded).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// What was counted of the key.
    fn counted(usage: &UsageCounters) -> u64 {
        let key_and_org = usage.take().hours;
        key_and_org.iter().map(|row| row.count).sum::<u64>() / 2
    }

    #[test]
    fn what_is_held_is_had_once_and_counted_once_when_it_is_on_record() {
        let (ledger, usage) =
            (Ledger::new(LedgerMode::Durable, ChainId::from_number(1)), UsageCounters::default());
        let mut shown = unrecorded(&ledger, &usage).map(|token| format!("the answer of {token}"));
        assert_eq!(poll(&mut shown), Poll::Pending);
        assert_eq!(counted(&usage), 0);
        ledger.take().unwrap().1.recorded();
        assert_eq!(poll(&mut shown), Poll::Ready(Ok("the answer of a token".to_owned())));
        assert_eq!(poll(&mut shown), Poll::Ready(Err(Refused::Unavailable)));
        assert_eq!(counted(&usage), 1);
    }

    #[test]
    fn who_goes_away_while_it_waits_has_got_nothing_and_nothing_is_counted() {
        let (ledger, usage) =
            (Ledger::new(LedgerMode::Durable, ChainId::from_number(1)), UsageCounters::default());
        let mut waiting = unrecorded(&ledger, &usage);
        assert_eq!(poll(&mut waiting), Poll::Pending);
        drop(waiting);
        ledger.take().unwrap().1.recorded();
        assert_eq!(counted(&usage), 0);
    }
}
