//! How often the issuer is asked about keys that it does not know: once a second for each address,
//! and twenty times for all. A question that brings a good key counts for nothing.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::VerifyError;

/// The time that counts.
const SPAN: Duration = Duration::from_secs(1);
/// Questions that may bring nothing within it.
const MOST: usize = 20;
/// Requests that wait for others to be answered.
const MOST_WAITING: usize = 1_000;

/// Who asks: an address, or of IPv6 the network that one customer gets. Nothing where the API does
/// not tell.
type Source = Option<IpAddr>;

#[derive(Debug, Default)]
pub(super) struct Limit {
    state: Mutex<State>,
    /// Somebody was answered.
    answered: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Questions that brought nothing, the oldest first. Never more than [`MOST`].
    failures: VecDeque<(Instant, Source)>,
    asking: Vec<Source>,
    waiting: usize,
}

enum Verdict {
    Ask,
    Wait,
    Refuse,
}

impl Limit {
    /// Waits until the issuer may be asked for this caller.
    ///
    /// # Errors
    /// [`VerifyError::TryLater`] where too many unknown keys came.
    pub(super) async fn admit(&self, caller: Option<IpAddr>) -> Result<Permit<'_>, VerifyError> {
        let source = caller.map(network_of);
        let mut place = None;
        loop {
            // registered before the look, so that no answer can come between the two unseen
            let mut answered = std::pin::pin!(self.answered.notified());
            answered.as_mut().enable();
            match self.judge(source) {
                Verdict::Ask => return Ok(Permit { limit: self, source, counts: true }),
                Verdict::Refuse => {
                    return Err(VerifyError::TryLater { retry_after: SPAN.as_secs() });
                }
                Verdict::Wait if place.is_none() => place = Some(self.place_to_wait()?),
                Verdict::Wait => {}
            }
            answered.await;
        }
    }

    fn judge(&self, source: Source) -> Verdict {
        let mut state = self.state();
        let now = Instant::now();
        let is_old = |failure: &(Instant, Source)| now.duration_since(failure.0) >= SPAN;
        while state.failures.front().is_some_and(is_old) {
            state.failures.pop_front();
        }
        let has_failed = |source| state.failures.iter().any(|(_, other)| *other == source);
        if state.failures.len() >= MOST || source.is_some() && has_failed(source) {
            return Verdict::Refuse;
        }
        // each of those who are asking may fail, and the next one would be too many
        let is_asking = source.is_some() && state.asking.contains(&source);
        if is_asking || state.failures.len() + state.asking.len() >= MOST {
            return Verdict::Wait;
        }
        state.asking.push(source);
        Verdict::Ask
    }

    fn place_to_wait(&self) -> Result<Place<'_>, VerifyError> {
        let mut state = self.state();
        if state.waiting >= MOST_WAITING {
            return Err(VerifyError::TryLater { retry_after: SPAN.as_secs() });
        }
        state.waiting += 1;
        Ok(Place(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // nothing panics while it is held
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait, given back when it is dropped.
struct Place<'l>(&'l Limit);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.waiting = state.waiting.saturating_sub(1);
    }
}

/// The right to ask once.
#[derive(Debug)]
pub(super) struct Permit<'l> {
    limit: &'l Limit,
    source: Source,
    counts: bool,
}

impl Permit<'_> {
    /// The issuer knew the key, or did not answer. A permit that is dropped without a word counts
    /// as one for nothing: a caller that goes away must not get a question for free.
    pub(super) fn does_not_count(mut self) {
        self.counts = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.limit.state();
        if let Some(at) = state.asking.iter().position(|source| *source == self.source) {
            state.asking.swap_remove(at);
        }
        if self.counts {
            state.failures.push_back((Instant::now(), self.source));
        }
        drop(state);
        self.limit.answered.notify_waiters();
    }
}

/// Who owns an address owns the other 2^64 of its network too.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    async fn fails(limit: &Limit, caller: Option<IpAddr>) -> bool {
        match limit.admit(caller).await {
            Ok(permit) => {
                drop(permit);
                true
            }
            Err(refused) => {
                assert_eq!(refused, VerifyError::TryLater { retry_after: 1 });
                false
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_may_be_wrong_once_a_second() {
        let limit = Limit::default();
        for _ in 0..3 {
            assert!(fails(&limit, Some(address(1))).await);
            for _ in 0..1_000 {
                assert!(!fails(&limit, Some(address(1))).await);
            }
            assert!(fails(&limit, Some(address(2))).await, "another one is not held up");
            tokio::time::advance(SPAN).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_may_be_wrong_twenty_times_a_second() {
        let limit = Limit::default();
        for _ in 0..3 {
            for number in 0..20 {
                assert!(fails(&limit, Some(address(number))).await, "{number}");
            }
            assert!(!fails(&limit, Some(address(20))).await && !fails(&limit, None).await);
            tokio::time::advance(SPAN).await;
        }
        assert!(limit.state().failures.len() <= MOST);
    }

    #[tokio::test(start_paused = true)]
    async fn good_keys_of_one_address_are_asked_about_one_after_the_other() {
        let limit = std::sync::Arc::new(Limit::default());
        let first = limit.admit(Some(address(1))).await.unwrap();
        let other = limit.clone();
        let second =
            tokio::spawn(
                async move { other.admit(Some(address(1))).await.map(Permit::does_not_count) },
            );
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        first.does_not_count();
        assert_eq!(second.await.unwrap(), Ok(()));
        let first = limit.admit(Some(address(1))).await.unwrap();
        let other = limit.clone();
        let second = tokio::spawn(async move { other.admit(Some(address(1))).await.map(drop) });
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(second.await.unwrap(), Err(VerifyError::TryLater { retry_after: 1 }));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_bounded_and_give_their_place_back() {
        let limit = std::sync::Arc::new(Limit::default());
        let first = limit.admit(Some(address(1))).await.unwrap();
        let wait = || {
            let other = limit.clone();
            tokio::spawn(
                async move { other.admit(Some(address(1))).await.map(Permit::does_not_count) },
            )
        };
        let waiting: Vec<_> = (0..MOST_WAITING).map(|_| wait()).collect();
        while limit.state().waiting < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(!fails(&limit, Some(address(1))).await);
        first.does_not_count();
        for waiter in waiting {
            assert_eq!(waiter.await.unwrap(), Ok(()));
        }
        let state = limit.state();
        assert_eq!((state.waiting, state.asking.len()), (0, 0));
    }

    #[test]
    fn an_address_stands_for_its_network() {
        let of = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(of("10.0.0.1"), "10.0.0.1");
    }
}
