//! Usage, as it is told: of an API key or of an organization, by the hour or by the day.
//!
//! What this node has counted and not written yet is told too; what another node has, once it has
//! written it, ten seconds later at most.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Serialize;
use tenmint_verifier::Action;

use crate::error::{Error, InvalidField, Result};
use crate::model::access::Actor;
use crate::model::id::{ApiKeyId, OrgId};
use crate::model::time::Timestamp;
use crate::model::usage::{Grain, LastUse, Outcome, UsageSubject};
use crate::service::Service;
use crate::service::access::{guarded, require};
use crate::service::init::checked;
use crate::store::usage;

/// Which usage is asked for, nothing parsed yet.
#[derive(Debug, Clone, Default)]
pub struct GetUsage {
    /// From this moment on, back to the start of its hour or day. By default a day before the end,
    /// or thirty where days are told.
    pub since: Option<String>,
    /// To before this moment, ahead to the end of its hour or day. By default the hour or day that
    /// runs is the last.
    pub until: Option<String>,
    /// `hour`, which is the default, or `day`.
    pub by: Option<String>,
}

/// The usage of an API key or an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageReport {
    /// The start of the first hour or day.
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// The end of the last hour or day.
    #[schemars(with = "String")]
    pub until: Timestamp,
    /// How finely it is told.
    pub by: Grain,
    /// The hours or days in which there was any, the earliest first.
    pub items: Vec<UsageItem>,
    /// All of them together.
    pub totals: UsageCounts,
    /// The last use, whenever it was; absent where there never was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<LastUse>,
}

/// The usage of one hour or day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageItem {
    /// When the hour or day begins (UTC).
    #[schemars(with = "String")]
    pub from: Timestamp,
    /// What was counted.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// How often there was a token, how often an API took the key as it was, and how often there was
/// nothing, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UsageCounts {
    /// Tokens that were issued.
    pub issued: u64,
    /// API keys that were sent to an API as they are, and about which it asked: once in some minutes,
    /// however often they are sent.
    pub introspected: u64,
    /// Requests that were refused after the secret had matched, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl UsageCounts {
    fn add(&mut self, outcome: &str, count: u64) {
        let counted = match outcome {
            _ if outcome == Outcome::Issued.as_str() => &mut self.issued,
            _ if outcome == Outcome::Introspected.as_str() => &mut self.introspected,
            _ => self.refused.entry(outcome.to_owned()).or_default(),
        };
        *counted = counted.saturating_add(count);
    }
}

impl Service {
    /// The usage of an API key.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every bad field, [`Error::NotFound`].
    pub async fn get_api_key_usage(
        &self,
        actor: &Actor,
        (org, id): (OrgId, &ApiKeyId),
        ask: &GetUsage,
    ) -> Result<UsageReport> {
        let range = Range::parse(ask, self.clock.now())?;
        self.get_api_key(actor, org, id).await?;
        self.report(UsageSubject::ApiKey(*id), range).await
    }

    /// The usage of an organization: of all its API keys together.
    ///
    /// # Errors
    /// Like [`Service::get_api_key_usage`].
    pub async fn get_org_usage(
        &self,
        actor: &Actor,
        id: &OrgId,
        ask: &GetUsage,
    ) -> Result<UsageReport> {
        let range = Range::parse(ask, self.clock.now())?;
        let thing = guarded(*id, ["org", "usage"])?;
        require(actor, &Action::Read, &thing, || "usage".to_owned())?;
        self.report(UsageSubject::Org(*id), range).await
    }

    /// The last uses of a page of API keys, of those that ever were used.
    pub async fn list_last_uses(&self, ids: &[ApiKeyId]) -> Result<HashMap<ApiKeyId, LastUse>> {
        let unwritten = self.hold_usage().await;
        let stored = usage::list_last_uses(&mut *self.store.read().await?, ids).await?;
        let mut last_uses: HashMap<ApiKeyId, LastUse> = stored.into_iter().collect();
        for id in ids {
            let here = unwritten.as_ref();
            let here = here.and_then(|here| here.last_use_of(UsageSubject::ApiKey(*id)));
            if let Some(last_use) = later(last_uses.remove(id), here) {
                last_uses.insert(*id, last_use);
            }
        }
        Ok(last_uses)
    }

    async fn report(&self, subject: UsageSubject, range: Range) -> Result<UsageReport> {
        // first, so that nothing moves to the database between the two looks
        let unwritten = self.hold_usage().await;
        let mut read = self.store.read().await?;
        let Range { since, until, by } = range;
        let mut counted = Counted::new(range);
        for row in usage::list(&mut read, subject, (since, until), by).await? {
            counted.add(row.from, &row.outcome, row.count);
        }
        let mut last_used = usage::find_last_use(&mut read, subject).await?;
        if let Some(unwritten) = &unwritten {
            for row in unwritten.hours_of(&mut read, subject).await? {
                counted.add(row.hour_at, row.outcome.as_str(), row.count);
            }
            last_used = later(last_used, unwritten.last_use_of(subject));
        }
        Ok(counted.report(last_used))
    }
}

fn later(one: Option<LastUse>, other: Option<LastUse>) -> Option<LastUse> {
    one.into_iter().chain(other).max_by_key(|last_use| last_use.used_at)
}

/// What was found of a range, hour by hour or day by day.
struct Counted {
    range: Range,
    items: BTreeMap<Timestamp, UsageCounts>,
    totals: UsageCounts,
}

impl Counted {
    fn new(range: Range) -> Self {
        Self { range, items: BTreeMap::new(), totals: UsageCounts::default() }
    }

    fn add(&mut self, moment: Timestamp, outcome: &str, count: u64) {
        let Range { since, until, by } = self.range;
        if (since..until).contains(&moment) {
            self.items.entry(by.start_of(moment)).or_default().add(outcome, count);
            self.totals.add(outcome, count);
        }
    }

    fn report(self, last_used: Option<LastUse>) -> UsageReport {
        let Self { range: Range { since, until, by }, items, totals } = self;
        let items = items.into_iter().map(|(from, counts)| UsageItem { from, counts }).collect();
        UsageReport { since, until, by, items, totals, last_used }
    }
}

/// Whole hours or whole days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    since: Timestamp,
    until: Timestamp,
    by: Grain,
}

impl Range {
    fn parse(ask: &GetUsage, now: Timestamp) -> Result<Self> {
        let mut wrong: Vec<InvalidField> = Vec::new();
        let moment = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
        let since = checked(&mut wrong, "since", moment(&ask.since));
        let until = checked(&mut wrong, "until", moment(&ask.until));
        let by = checked(&mut wrong, "by", ask.by.as_deref().unwrap_or("hour").parse());
        match (since, until, by) {
            (Some(since), Some(until), Some(by)) => Self::within_bounds(since, until, by, now),
            _ => Err(Error::Invalid(wrong)),
        }
    }

    fn within_bounds(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        by: Grain,
        now: Timestamp,
    ) -> Result<Self> {
        let (usual_days, most_days, what) = match by {
            Grain::Hour => (1, 31, "hours"),
            Grain::Day => (30, 92, "days"),
        };
        let days = |days: i64| days * Grain::Day.as_millis();
        let until = until.map_or_else(|| end_of(by, now), |until| rounded_up(by, until));
        let usual = Timestamp::from_millis(until.as_millis().saturating_sub(days(usual_days)));
        let since = by.start_of(since.unwrap_or(usual));
        if since >= until {
            return Err(Error::invalid("since", "it lies before `until`, and not ahead"));
        }
        if until.as_millis() - since.as_millis() > days(most_days) {
            let message = format!("at most {most_days} days are told by {what}: ask for fewer");
            return Err(Error::invalid("since", message));
        }
        Ok(Self { since, until, by })
    }
}

/// The end of the hour or day that a moment is in.
fn end_of(by: Grain, moment: Timestamp) -> Timestamp {
    Timestamp::from_millis(by.start_of(moment).as_millis().saturating_add(by.as_millis()))
}

/// The moment itself where an hour or day begins with it, else the end of the one that it is in.
fn rounded_up(by: Grain, moment: Timestamp) -> Timestamp {
    let start = by.start_of(moment);
    if start == moment { start } else { end_of(by, moment) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(since: &str, until: &str, by: &str) -> std::result::Result<String, String> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let ask = GetUsage { since: given(since), until: given(until), by: given(by) };
        let now = "2027-01-15T08:30".parse().unwrap();
        Range::parse(&ask, now)
            .map(|range| format!("{} {}", range.since, range.until))
            .map_err(|cause| cause.to_string())
    }

    #[test]
    fn a_range_is_whole_hours_or_days() {
        for (since, until, by, expected) in [
            ("", "", "", "2027-01-14T09:00:00Z 2027-01-15T09:00:00Z"),
            ("", "", "day", "2026-12-17T00:00:00Z 2027-01-16T00:00:00Z"),
            ("2027-01-15T07:59", "", "hour", "2027-01-15T07:00:00Z 2027-01-15T09:00:00Z"),
            ("2027-01-10", "2027-01-11", "", "2027-01-10T00:00:00Z 2027-01-11T00:00:00Z"),
            ("2027-01-10", "2027-01-11T00:00:01", "", "2027-01-10T00:00:00Z 2027-01-11T01:00:00Z"),
            (
                "2027-01-10T12:00",
                "2027-01-10T13:00",
                "day",
                "2027-01-10T00:00:00Z 2027-01-11T00:00:00Z",
            ),
            ("2026-12-15T09:00", "", "hour", "2026-12-15T09:00:00Z 2027-01-15T09:00:00Z"),
        ] {
            assert_eq!(range(since, until, by).as_deref(), Ok(expected), "{since} {until} {by}");
        }
    }

    #[test]
    fn a_range_that_is_turned_round_or_too_long_is_refused_with_the_fix() {
        let turned = "`since`: it lies before `until`, and not ahead";
        for since in ["2027-01-15T09:00", "2028-01-01"] {
            assert_eq!(range(since, "", "").unwrap_err(), turned);
        }
        let too_long = range("2026-12-15T08:59", "", "hour").unwrap_err();
        assert_eq!(too_long, "`since`: at most 31 days are told by hours: ask for fewer");
        let too_long = range("2026-01-01", "", "day").unwrap_err();
        assert_eq!(too_long, "`since`: at most 92 days are told by days: ask for fewer");
        assert!(range("0001-01-01", "9999-12-31", "day").is_err());
    }

    #[test]
    fn every_bad_field_of_a_range_is_named() {
        let refused = range("yesterday", "31.12.2026", "week").unwrap_err();
        for field in ["`since`", "`until`", "`by`: usage is told by `hour` or by `day`"] {
            assert!(refused.contains(field), "{refused}");
        }
    }
}
