//! How a node stands: how current it is, what it holds, what waits to be recorded.

use std::time::Duration;

use crate::figures::Distribution;
use crate::http::metrics::Observed;
use crate::http::metrics::text::{Page, as_f64};
use crate::model::signing_key::{SigningKey, SigningKeyState};
use crate::model::time::Timestamp;
use crate::service::ledger::spool::Spool;

/// The states of a signing key that is in use or will be.
const STATES: [SigningKeyState; 3] =
    [SigningKeyState::Published, SigningKeyState::Signing, SigningKeyState::Retiring];

impl Observed {
    pub(super) fn tell_of_node(&self, page: &mut Page) {
        let now = self.app.clock.now();
        let age = self.app.mint.index().age(now).map_or(f64::INFINITY, |age| age.as_secs_f64());
        self.tell_of_database(page, now, age);
        self.tell_of_revocations(page, age);
        self.tell_of_memory(page);
        self.tell_of_signing_keys(page, now);
        self.tell_of_ledger(page, now);
        self.tell_of_spool(page);
    }

    fn tell_of_database(&self, page: &mut Page, now: Timestamp, age: f64) {
        let index = self.app.mint.index();
        let help = "1 while tokens can be issued";
        page.gauge("tenmint_ready", help, f64::from(u8::from(self.app.mint.is_ready(now))));
        let help = "how long ago the database was last read; `+Inf` where what was read cannot be relied on";
        page.gauge("tenmint_database_age_seconds", help, age);
        let help = "the revision of the database that is applied";
        let revision = index.revision().and_then(|revision| u64::try_from(revision).ok());
        page.gauge("tenmint_applied_revision", help, as_f64(revision.unwrap_or(0)));
        let help = "how far the time of the database is ahead of the clock of this machine";
        let offset = self.app.clock.ahead_of_machine();
        let size = Duration::from_millis(offset.unsigned_abs()).as_secs_f64();
        page.gauge("tenmint_clock_offset_seconds", help, if offset < 0 { -size } else { size });
    }

    fn tell_of_revocations(&self, page: &mut Page, age: f64) {
        let feed = self.app.mint.feed();
        let help = "the revision of the revocation feed";
        page.gauge("tenmint_feed_revision", help, as_f64(feed.revision()));
        let help = "verifiers that wait for the revocation feed to move";
        page.gauge("tenmint_feed_waiting_verifiers", help, of(feed.waiting()));
        let help = "how long ago the feed was last known to hold all that was revoked; `+Inf` where it cannot be known";
        page.gauge("tenmint_feed_lag_seconds", help, age);
        let help =
            "keys, secrets and signing keys that ended and that the journal of revocations lacks";
        page.gauge("tenmint_journal_lines_waiting", help, of(self.follower.unjournaled()));
    }

    fn tell_of_memory(&self, page: &mut Page) {
        let mint = &self.app.mint;
        let help = "API keys in memory, those included that ended within a month";
        page.gauge("tenmint_index_api_keys", help, of(mint.index().len()));
        let help = "secrets that API keys in memory are found by";
        page.gauge("tenmint_index_secrets", help, of(mint.index().secrets()));
        let help =
            "quotas that this node counts, each of a key or of a key and those that replaced it";
        page.gauge("tenmint_quota_counters", help, of(mint.quotas().len()));
    }

    fn tell_of_signing_keys(&self, page: &mut Page, now: Timestamp) {
        let mut signing_keys = self.follower.signing_keys();
        signing_keys.retain(|signing_key| signing_key.state().is_served());
        let mut counts = page.gauges("tenmint_signing_keys", "signing keys in the JWKS, by state");
        for state in STATES {
            let count = signing_keys.iter().filter(|key| key.state() == state).count();
            counts.sample(&[("state", state.as_str())], of(count));
        }
        let mut ages = page
            .gauges("tenmint_signing_key_age_seconds", "how long ago a signing key was published");
        for signing_key in &signing_keys {
            let labels =
                [("kid", signing_key.kid.as_str()), ("state", signing_key.state().as_str())];
            ages.sample(&labels, now.since(signing_key.published_at).as_secs_f64());
        }
        let mut ages = page.gauges(
            "tenmint_signing_key_state_age_seconds",
            "how long ago a signing key came into its state",
        );
        for signing_key in &signing_keys {
            let labels =
                [("kid", signing_key.kid.as_str()), ("state", signing_key.state().as_str())];
            ages.sample(&labels, in_state_for(signing_key, now).as_secs_f64());
        }
    }

    fn tell_of_ledger(&self, page: &mut Page, now: Timestamp) {
        let ledger = self.app.mint.ledger();
        let figures = ledger.figures();
        let help = "1 while tokens can be recorded";
        page.gauge("tenmint_ledger_open", help, f64::from(u8::from(ledger.is_open())));
        let help = "tokens that are on record";
        page.counter("tenmint_ledger_facts_total", help, as_f64(figures.facts.get()));
        let help = "batches that are on record, in the database or in the spool";
        page.counter("tenmint_ledger_batches_total", help, as_f64(figures.batches.get()));
        let help = "batches that went to the spool";
        page.counter("tenmint_ledger_spooled_batches_total", help, as_f64(figures.spooled.get()));
        let help = "tries to record a batch that failed";
        page.counter("tenmint_ledger_failures_total", help, as_f64(figures.failures.get()));
        let help = "tokens that wait to be recorded with the next batch";
        page.gauge("tenmint_ledger_facts_waiting", help, as_f64(ledger.waiting()));
        let help = "how long ago the oldest token was issued that is not on record";
        page.gauge("tenmint_ledger_lag_seconds", help, ledger.lag(now).as_secs_f64());
        let help = "how long it took until a batch was on record";
        let commits = Distribution::default().with(&figures.commits);
        page.histograms("tenmint_ledger_commit_duration_seconds", help).distribution(&[], &commits);
    }

    fn tell_of_spool(&self, page: &mut Page) {
        let spool = self.app.spool();
        let told = |figure: fn(&Spool) -> u64| as_f64(spool.map_or(0, figure));
        let help = "batches in the spool, which the database does not have";
        page.gauge("tenmint_ledger_spool_batches", help, told(Spool::waiting_batches));
        let help = "bytes of them";
        page.gauge("tenmint_ledger_spool_bytes", help, told(Spool::waiting_bytes));
    }
}

fn of(count: usize) -> f64 {
    as_f64(u64::try_from(count).unwrap_or(u64::MAX))
}

fn in_state_for(signing_key: &SigningKey, now: Timestamp) -> Duration {
    let since = match signing_key.state() {
        SigningKeyState::Published => None,
        SigningKeyState::Signing => signing_key.signing_at,
        SigningKeyState::Retiring => signing_key.retiring_at,
        SigningKeyState::Retired | SigningKeyState::Withdrawn => signing_key.retired_at,
    };
    now.since(since.unwrap_or(signing_key.published_at))
}
