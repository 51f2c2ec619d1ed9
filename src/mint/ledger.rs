//! The ledger on the hot path: facts wait together, and are taken to be recorded as one batch.
//!
//! `Ledger::append` never waits. Whoever gave a fact holds a [`Receipt`] and awaits it before the
//! token leaves; the recorder of the service takes all facts that wait, and says what became of
//! them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use crate::figures::{Counter, Histogram};
use crate::mint::Refused;
use crate::model::ledger::{Fact, FactWriter, LedgerMode};
use crate::model::time::Timestamp;
use crate::model::token_id::ChainId;

/// Facts that may wait at once: four megabytes of them.
const MAX_FACTS: u64 = 65_536;

/// The facts of this node that wait to be recorded.
#[derive(Debug)]
pub struct Ledger {
    mode: LedgerMode,
    chain: ChainId,
    open: Mutex<Open>,
    /// The recorder cannot record at the moment. Told under the lock, so that no fact comes in after it; who
    /// only wants to know needs none.
    is_closed: AtomicBool,
    /// Wakes the recorder when the first fact of a batch comes.
    came: Notify,
    figures: LedgerFigures,
}

/// What the recorder has done, for whoever watches the node.
#[derive(Debug)]
pub struct LedgerFigures {
    /// Facts that are on record.
    pub facts: Counter,
    /// Batches that are on record.
    pub batches: Counter,
    /// Those of them that went to the spool.
    pub spooled: Counter,
    /// How often a batch could not be recorded, each try of it.
    pub failures: Counter,
    /// How long it took until a batch was on record, for those that could be recorded at once.
    pub commits: Histogram,
    /// The first moment of the batch that is being recorded.
    in_hand_since: AtomicI64,
}

/// No batch is being recorded.
const NOTHING: i64 = i64::MAX;

impl Default for LedgerFigures {
    fn default() -> Self {
        Self {
            facts: Counter::default(),
            batches: Counter::default(),
            spooled: Counter::default(),
            failures: Counter::default(),
            commits: Histogram::default(),
            in_hand_since: AtomicI64::new(NOTHING),
        }
    }
}

impl LedgerFigures {
    /// A batch is being recorded whose first fact is of this moment.
    pub fn taken(&self, first_at: Timestamp) {
        self.in_hand_since.store(first_at.as_millis(), Ordering::Relaxed);
    }

    /// It is on record.
    pub fn recorded(&self, facts: u64) {
        self.facts.add(facts);
        self.batches.add(1);
        self.in_hand_since.store(NOTHING, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Open {
    facts: FactWriter,
    outcome: Arc<Outcome>,
    /// A whole batch before this one: the clock was corrected, and facts of moments far apart are no one batch.
    before: Option<(FactWriter, Arc<Outcome>)>,
}

/// What became of the facts of one batch.
#[derive(Debug, Default)]
struct Outcome {
    state: AtomicU8,
    /// Whom to wake then.
    waiting: Mutex<Vec<Waker>>,
}

const WAITING: u8 = 0;
const RECORDED: u8 = 1;
const FAILED: u8 = 2;

/// What whoever gave a fact waits for. It comes to `()` when the fact is on record, as surely as the operator
/// asked for, and to [`Refused::Unavailable`] where it cannot be recorded: the token must not leave.
#[derive(Debug)]
#[must_use = "a token leaves when its fact is recorded, and not before"]
pub struct Receipt {
    outcome: Option<Arc<Outcome>>,
    /// Its place among those who wait, once it has one.
    place: Option<usize>,
}

impl Future for Receipt {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { outcome, place } = &mut *self;
        let Some(outcome) = outcome else { return Poll::Ready(Ok(())) };
        outcome.poll(place, context.waker())
    }
}

impl Outcome {
    fn poll(&self, place: &mut Option<usize>, waker: &Waker) -> Poll<Result<(), Refused>> {
        if let Some(told) = self.told() {
            return Poll::Ready(told);
        }
        let mut waiting = self.waiting.lock();
        // looked at again, so that nobody waits for what is over
        if let Some(told) = self.told() {
            return Poll::Ready(told);
        }
        if let Some(known) = place.and_then(|place| waiting.get_mut(place)) {
            known.clone_from(waker);
        } else {
            *place = Some(waiting.len());
            waiting.push(waker.clone());
        }
        Poll::Pending
    }

    fn told(&self) -> Option<Result<(), Refused>> {
        match self.state.load(Ordering::Acquire) {
            WAITING => None,
            RECORDED => Some(Ok(())),
            _ => Some(Err(Refused::Unavailable)),
        }
    }
}

/// Those who wait for a batch. Dropped without a word, they are refused.
#[derive(Debug)]
pub struct Waiting(Arc<Outcome>);

impl Waiting {
    /// Lets the tokens leave.
    pub fn recorded(self) {
        self.settle(RECORDED);
    }

    fn settle(&self, state: u8) {
        // what is settled stays so
        let _ = self.0.state.compare_exchange(WAITING, state, Ordering::AcqRel, Ordering::Acquire);
        let waiting = std::mem::take(&mut *self.0.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.settle(FAILED);
    }
}

impl Ledger {
    /// A ledger whose facts a recorder takes, and of whose chain the ids of tokens are.
    pub fn new(mode: LedgerMode, chain: ChainId) -> Self {
        let (facts, outcome) = (FactWriter::new(chain), Arc::default());
        let open = Open { facts, outcome, before: None };
        Self {
            mode,
            chain,
            open: Mutex::new(open),
            is_closed: AtomicBool::new(false),
            came: Notify::new(),
            figures: LedgerFigures::default(),
        }
    }

    /// A ledger that records nothing.
    pub fn off() -> Self {
        let mut random = [0; 3];
        // ids have 56 random bits beside these
        let _ = SystemRandom::new().fill(&mut random);
        Self::new(LedgerMode::Off, ChainId::from_random(random))
    }

    /// The chain that ids of tokens say.
    pub(super) fn chain(&self) -> ChainId {
        self.chain
    }

    /// Adds a fact to those that wait.
    ///
    /// # Errors
    /// [`Refused::Unavailable`] where too many wait already, or none can be recorded.
    pub(super) fn append(&self, fact: &Fact<'_>) -> Result<Receipt, Refused> {
        if self.mode == LedgerMode::Off {
            return Ok(Receipt { outcome: None, place: None });
        }
        let mut open = self.open.lock();
        let is_far = open.facts.span_with(fact.token_id.at()) > FactWriter::MAX_SPAN;
        if self.is_closed.load(Ordering::Relaxed)
            || open.len() >= MAX_FACTS
            || is_far && open.before.is_some()
        {
            return Err(Refused::Unavailable);
        }
        if is_far {
            open.before = Some(open.take(self.chain));
        }
        open.facts.put(fact);
        let waits = self.mode == LedgerMode::Durable;
        let outcome = waits.then(|| open.outcome.clone());
        let is_first = open.facts.len() == 1;
        drop(open);
        if is_first {
            self.came.notify_one();
        }
        Ok(Receipt { outcome, place: None })
    }

    /// What the recorder has done.
    pub fn figures(&self) -> &LedgerFigures {
        &self.figures
    }

    /// How many facts wait to be taken.
    pub fn waiting(&self) -> u64 {
        self.open.lock().len()
    }

    /// How long ago the oldest fact was issued that is not on record.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let waiting = self.open.lock().first_at();
        let in_hand = self.figures.in_hand_since.load(Ordering::Relaxed);
        let in_hand = (in_hand != NOTHING).then(|| Timestamp::from_millis(in_hand));
        in_hand.into_iter().chain(waiting).map(|at| now.since(at)).max().unwrap_or_default()
    }

    /// Whether facts can be recorded.
    pub fn is_open(&self) -> bool {
        self.mode == LedgerMode::Off || !self.is_closed.load(Ordering::Relaxed)
    }

    /// Refuses all facts, as long as none can be recorded.
    pub fn close(&self) {
        self.set_closed(true);
    }

    /// Refuses all who wait. Where tokens leave before they are recorded, what was given stays, to be
    /// recorded later.
    pub fn refuse_waiting(&self) {
        if self.mode == LedgerMode::Durable {
            while self.take().is_some() {}
        }
    }

    /// Takes facts again.
    pub fn reopen(&self) {
        self.set_closed(false);
    }

    fn set_closed(&self, is_closed: bool) {
        let _open = self.open.lock();
        self.is_closed.store(is_closed, Ordering::Relaxed);
    }

    /// Ends when there are facts.
    pub async fn some(&self) {
        while self.waiting() == 0 {
            self.came.notified().await;
        }
    }

    /// Takes the facts of the next batch, if there are any, and with them those who gave them.
    pub fn take(&self) -> Option<(FactWriter, Waiting)> {
        let mut open = self.open.lock();
        let (facts, outcome) = match open.before.take() {
            Some(before) => before,
            None if open.facts.is_empty() => return None,
            None => open.take(self.chain),
        };
        Some((facts, Waiting(outcome)))
    }
}

impl Open {
    fn take(&mut self, chain: ChainId) -> (FactWriter, Arc<Outcome>) {
        let facts = std::mem::replace(&mut self.facts, FactWriter::new(chain));
        (facts, std::mem::take(&mut self.outcome))
    }

    fn len(&self) -> u64 {
        self.facts.len() + self.before.as_ref().map_or(0, |(before, _)| before.len())
    }

    fn first_at(&self) -> Option<Timestamp> {
        let before = self.before.as_ref().and_then(|(before, _)| before.first_at());
        before.into_iter().chain(self.facts.first_at()).min()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Wake;

    use super::*;
    use crate::model::id::ApiKeyId;
    use crate::model::time::Timestamp;
    use crate::model::token_id::TokenId;

    fn append(ledger: &Ledger, at: i64) -> Result<Receipt, Refused> {
        ledger.append(&Fact {
            token_id: TokenId::new(Timestamp::from_millis(at), ledger.chain(), [1; 7]),
            api_key: ApiKeyId::from_random([1; 16]),
            audiences: &[],
            scope: "read:a",
            lifetime: 600,
            address: None,
        })
    }

    fn poll(future: impl Future<Output = Result<(), Refused>>) -> Poll<Result<(), Refused>> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_gave_a_fact_waits_until_it_is_recorded_or_cannot_be() {
        let ledger = Ledger::new(LedgerMode::Durable, ChainId::from_number(1));
        let [first, second] = [0, 1].map(|at| append(&ledger, at).unwrap());
        let mut recorded = pin!(first);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(recorded.as_mut().poll(&mut context), Poll::Pending);
        let (facts, waiting) = ledger.take().unwrap();
        assert_eq!(facts.len(), 2);
        assert_eq!(recorded.as_mut().poll(&mut context), Poll::Pending);
        waiting.recorded();
        assert_eq!(recorded.as_mut().poll(&mut context), Poll::Ready(Ok(())));
        assert_eq!(poll(second), Poll::Ready(Ok(())));

        let third = append(&ledger, 2).unwrap();
        drop(ledger.take());
        assert_eq!(poll(third), Poll::Ready(Err(Refused::Unavailable)));
        assert!(ledger.take().is_none());
    }

    #[test]
    fn who_asks_again_has_one_place_and_is_woken_by_what_it_asked_with_last() {
        let ledger = Ledger::new(LedgerMode::Durable, ChainId::from_number(1));
        let mut receipt = append(&ledger, 0).unwrap();
        let wakings = [0; 3].map(|_| Arc::new(Wakings::default()));
        for waking in &wakings {
            let waker = Waker::from(waking.clone());
            assert!(pin!(&mut receipt).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        let outcome = receipt.outcome.clone().unwrap();
        assert_eq!(outcome.waiting.lock().len(), 1);
        ledger.take().unwrap().1.recorded();
        assert_eq!(wakings.map(|waking| waking.0.load(Ordering::Relaxed)), [0, 0, 1]);
        assert!(outcome.waiting.lock().is_empty());
        assert_eq!(poll(receipt), Poll::Ready(Ok(())));
    }

    /// How often somebody was woken.
    #[derive(Default)]
    struct Wakings(AtomicU8);

    impl Wake for Wakings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ledger_that_is_buffered_or_off_makes_nobody_wait() {
        for mode in [LedgerMode::Buffered, LedgerMode::Off] {
            let ledger = Ledger::new(mode, ChainId::from_number(1));
            assert_eq!(poll(append(&ledger, 0).unwrap()), Poll::Ready(Ok(())));
            assert_eq!(ledger.take().is_some(), mode == LedgerMode::Buffered);
        }
    }

    #[test]
    fn a_clock_that_is_corrected_begins_another_batch_and_refuses_nobody() {
        let ledger = Ledger::new(LedgerMode::Durable, ChainId::from_number(1));
        let before = append(&ledger, 60_000).unwrap();
        let after = append(&ledger, 0).unwrap();
        assert_eq!(ledger.waiting(), 2);
        let (facts, waiting) = ledger.take().unwrap();
        assert_eq!(facts.first_at(), Some(Timestamp::from_millis(60_000)), "in their order");
        waiting.recorded();
        assert_eq!(poll(before), Poll::Ready(Ok(())));
        let (facts, waiting) = ledger.take().unwrap();
        assert_eq!((facts.first_at(), facts.len()), (Some(Timestamp::from_millis(0)), 1));
        waiting.recorded();
        assert_eq!(poll(after), Poll::Ready(Ok(())));
        assert!(ledger.take().is_none());
    }

    #[test]
    fn a_ledger_that_is_closed_full_or_late_takes_no_more() {
        let ledger = Ledger::new(LedgerMode::Buffered, ChainId::from_number(1));
        ledger.close();
        assert!(append(&ledger, 0).is_err() && !ledger.is_open());
        ledger.reopen();
        assert!(append(&ledger, 0).is_ok() && ledger.is_open());
        assert!(append(&ledger, 10_001).is_ok(), "another batch");
        assert!(append(&ledger, 20_002).is_err(), "nobody takes them");
        for _ in 2..MAX_FACTS {
            drop(append(&ledger, 10_001).unwrap());
        }
        assert!(append(&ledger, 10_001).is_err());
        assert!(ledger.take().is_some());
        assert!(append(&ledger, 20_002).is_ok());
    }
}
