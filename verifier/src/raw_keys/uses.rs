//! Calls to the API that are counted and told to the service now and then, raw keys and tokens alike,
//! for whoever watches the way from the ones to the others.
//!
//! Memory is bounded, and what cannot be told is lost: counting never holds a call up, and nothing is
//! told twice.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::error::VerifyError;
use crate::raw_keys::issuer::Issuer;
use crate::remote::jittered;
use crate::token::Token;
use crate::verify::Verifier;

/// From one report to the next.
const EVERY: Duration = Duration::from_secs(30);
/// Rows that are counted between two reports, 300 bytes each or so: a row is a key, in one form.
const MAX_ROWS: usize = 10_000;
/// Rows of one report, as many as the service takes.
const ROWS_AT_ONCE: usize = 500;
/// Bytes of a user agent that are told.
const MAX_USER_AGENT: usize = 200;

impl Verifier {
    /// Counts a call, where the API reports them ([`RawKeys::reporting_uses`]): from this address, and
    /// under the name that the client gives itself. The layers of the feature `axum` count by
    /// themselves. A user agent that may hold a secret is not for here.
    ///
    /// [`RawKeys::reporting_uses`]: crate::RawKeys::reporting_uses
    ///
    /// ```
    /// # fn show(verifier: tenmint_verifier::Verifier, token: tenmint_verifier::Token) {
    /// verifier.count_use(&token, "192.0.2.7".parse().ok(), Some("curl/8"));
    /// # }
    /// ```
    pub fn count_use(&self, token: &Token, caller: Option<IpAddr>, user_agent: Option<&str>) {
        if let Some(uses) = self.raw_key_verifier().and_then(|raw_keys| raw_keys.uses.as_ref()) {
            uses.counted.count(token, caller, user_agent);
        }
    }

    /// Tells the service now what was counted since the last report, as before the API stops. Nothing
    /// is told twice: what was under way when this failed is lost.
    ///
    /// # Errors
    /// [`VerifyError::IssuerUnavailable`], also where the API's own key may not report.
    ///
    /// ```
    /// # async fn show(verifier: tenmint_verifier::Verifier) {
    /// let _lost = verifier.report_uses().await;
    /// # }
    /// ```
    pub async fn report_uses(&self) -> Result<(), VerifyError> {
        match self.raw_key_verifier().and_then(|raw_keys| raw_keys.uses.as_ref()) {
            Some(uses) => uses.counted.report_to(&uses.issuer).await,
            None => Ok(()),
        }
    }

    /// Whether calls are counted at all.
    #[cfg(feature = "axum")]
    pub(crate) fn counts_uses(&self) -> bool {
        self.raw_key_verifier().is_some_and(|raw_keys| raw_keys.uses.is_some())
    }
}

/// What counts, and what tells it.
pub(super) struct UseReporter {
    counted: Arc<CountedUses>,
    issuer: Issuer,
    task: AbortHandle,
}

impl fmt::Debug for UseReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UseReporter")
    }
}

impl Drop for UseReporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl UseReporter {
    pub(super) fn start(issuer: Issuer, audiences: &[String]) -> Self {
        let counted = Arc::new(CountedUses::of(audiences));
        let task = tokio::spawn(tell(counted.clone(), issuer.clone())).abort_handle();
        Self { counted, issuer, task }
    }
}

async fn tell(counted: Arc<CountedUses>, issuer: Issuer) {
    while issuer.is_wanted() {
        sleep(jittered(EVERY)).await;
        // what is lost is logged where it was sent, and the next report is a new try
        let _lost = counted.report_to(&issuer).await;
    }
}

/// Calls by audience, form and key.
struct CountedUses {
    apis: Vec<(String, Mutex<Rows>)>,
}

#[derive(Default)]
struct Rows {
    raw: HashMap<Box<str>, Counted>,
    token: HashMap<Box<str>, Counted>,
}

struct Counted {
    calls: u64,
    first: Instant,
    last: Instant,
    address: Option<IpAddr>,
    user_agent: Option<Box<str>>,
}

/// A row of a report.
#[derive(Serialize)]
struct ReportRow<'t> {
    client_id: &'t str,
    form: &'static str,
    calls: u64,
    first_ago: u64,
    last_ago: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'t str>,
}

/// A report.
#[derive(Serialize)]
struct Report<'t> {
    audience: &'t str,
    uses: &'t [ReportRow<'t>],
}

impl CountedUses {
    fn of(audiences: &[String]) -> Self {
        let api = |audience: &String| (audience.clone(), Mutex::default());
        Self { apis: audiences.iter().map(api).collect() }
    }

    fn count(&self, token: &Token, caller: Option<IpAddr>, user_agent: Option<&str>) {
        let claims = token.claims();
        let is_for = |audience: &str| claims.aud.iter().any(|aud| **aud == *audience);
        let Some((_, rows)) = self.apis.iter().find(|(audience, _)| is_for(audience)) else {
            return;
        };
        let now = Instant::now();
        let mut rows = locked(rows);
        let has_room = rows.raw.len() + rows.token.len() < MAX_ROWS;
        let keys = if token.is_raw_key() { &mut rows.raw } else { &mut rows.token };
        if let Some(known) = keys.get_mut(&*claims.client_id) {
            known.add(now, caller, user_agent);
        } else if has_room {
            let mut first =
                Counted { calls: 0, first: now, last: now, address: None, user_agent: None };
            first.add(now, caller, user_agent);
            keys.insert((&*claims.client_id).into(), first);
        }
    }

    async fn report_to(&self, issuer: &Issuer) -> Result<(), VerifyError> {
        for report in self.take_reports() {
            issuer.report(report).await?;
        }
        Ok(())
    }

    /// What was counted, in reports that the service takes.
    fn take_reports(&self) -> Vec<Vec<u8>> {
        let mut reports = Vec::new();
        for (audience, rows) in &self.apis {
            let Rows { raw, token: by_token } = std::mem::take(&mut *locked(rows));
            let now = Instant::now();
            let mut told: Vec<ReportRow<'_>> =
                raw.iter().map(|(id, calls)| calls.told(id, "raw", now)).collect();
            told.extend(by_token.iter().map(|(id, calls)| calls.told(id, "token", now)));
            let parts = told.chunks(ROWS_AT_ONCE).map(|uses| Report { audience, uses });
            reports.extend(parts.filter_map(|report| serde_json::to_vec(&report).ok()));
        }
        reports
    }
}

impl Counted {
    fn add(&mut self, now: Instant, caller: Option<IpAddr>, user_agent: Option<&str>) {
        self.calls = self.calls.saturating_add(1);
        self.last = now;
        self.address = caller.or(self.address);
        let cut = |text: &'_ str| text.len().min(MAX_USER_AGENT);
        let Some(kept) = user_agent.and_then(|text| text.get(..cut(text))) else { return };
        if self.user_agent.as_deref() != Some(kept) {
            self.user_agent = Some(kept.into());
        }
    }

    fn told<'t>(&'t self, client_id: &'t str, form: &'static str, now: Instant) -> ReportRow<'t> {
        let ago = |moment: Instant| now.saturating_duration_since(moment).as_secs();
        ReportRow {
            client_id,
            form,
            calls: self.calls,
            first_ago: ago(self.first),
            last_ago: ago(self.last),
            address: self.address,
            user_agent: self.user_agent.as_deref(),
        }
    }
}

/// A panic elsewhere leaves counts that are as good as any.
fn locked(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}
