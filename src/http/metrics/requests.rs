//! What is counted of requests: how many, with what answer, how long they took, how many there are now,
//! why there was no token, and what gateways were told.
//!
//! Each worker counts in memory of its own. What a caller sends never names a figure: routes and reasons
//! are those of fixed tables.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::clock::Clock;
use crate::figures::{Counter, Distribution, Histogram, PerWorker};
use crate::http::forward_auth::DECISIONS;
use crate::http::metrics::text::{Page, as_f64};
use crate::http::oauth::error::REASONS;
use crate::http::{NO_ROUTE, ROUTES, api, forward_auth};

/// The first digit of the status of an answer, or none where the connection ended before there was one.
const CLASSES: [&str; 5] = ["none", "2xx", "3xx", "4xx", "5xx"];
/// Routes that are told of before anybody has asked there.
const ALWAYS_TOLD: usize = ROUTES.len() + 2;

/// What a node counts of the requests to its listeners.
#[derive(Debug)]
pub struct Requests {
    /// What each route is called: the path, or the template of it.
    routes: Vec<&'static str>,
    workers: PerWorker<Counts>,
    connections: Counter,
    allowed_connections: Counter,
}

/// The counts of one worker.
#[derive(Debug)]
struct Counts {
    in_flight: Counter,
    routes: Box<[RouteCounts]>,
    issued: Counter,
    refused: [Counter; REASONS.len()],
    decided: [Counter; DECISIONS.len()],
}

#[derive(Debug, Default)]
struct RouteCounts {
    classes: [Counter; CLASSES.len()],
    durations: Histogram,
}

impl Default for Requests {
    fn default() -> Self {
        let mut routes: Vec<&str> =
            ROUTES.into_iter().chain([forward_auth::PATH, NO_ROUTE]).collect();
        for path in api::paths() {
            if !routes.contains(&path) {
                routes.push(path);
            }
        }
        let workers = PerWorker::new(|| Counts {
            in_flight: Counter::default(),
            routes: routes.iter().map(|_| RouteCounts::default()).collect(),
            issued: Counter::default(),
            refused: std::array::from_fn(|_| Counter::default()),
            decided: std::array::from_fn(|_| Counter::default()),
        });
        let (connections, allowed_connections) = (Counter::default(), Counter::default());
        Self { routes, workers, connections, allowed_connections }
    }
}

impl Requests {
    /// A token was issued.
    pub(in crate::http) fn issued(&self) {
        self.workers.mine().issued.add(1);
    }

    /// There was none, for this reason.
    pub(in crate::http) fn refused(&self, reason: &str) {
        count(&self.workers.mine().refused, &REASONS, reason);
    }

    /// A gateway was told this.
    pub(in crate::http) fn decided(&self, decision: &str) {
        count(&self.workers.mine().decided, &DECISIONS, decision);
    }

    fn place_of(&self, route: &str) -> usize {
        let place = |name| self.routes.iter().position(|known| *known == name);
        place(route).or_else(|| place(NO_ROUTE)).unwrap_or(0)
    }

    /// All of it.
    pub(super) fn tell(&self, page: &mut Page) {
        self.tell_of_routes(page);
        let help = "requests whose answer has not begun, waiting verifiers among them";
        page.gauge(
            "tenmint_http_requests_in_flight",
            help,
            as_f64(self.workers.sum(|worker| &worker.in_flight)),
        );
        let help = "open connections";
        page.gauge("tenmint_http_connections", help, as_f64(self.connections.get()));
        let help = "connections that there may be at once: further ones wait";
        page.gauge("tenmint_http_connections_max", help, as_f64(self.allowed_connections.get()));
        let help = "tokens that were issued";
        page.counter(
            "tenmint_tokens_issued_total",
            help,
            as_f64(self.workers.sum(|worker| &worker.issued)),
        );
        let mut refusals = page.counters(
            "tenmint_token_refusals_total",
            "requests at `/oauth/token` that got no token, by the reason",
        );
        for (place, reason) in REASONS.into_iter().enumerate() {
            let count = self.sum(|worker| worker.refused.get(place));
            refusals.sample(&[("reason", reason)], as_f64(count));
        }
        let mut decisions = page.counters(
            "tenmint_forward_auth_decisions_total",
            "what gateways were told at `/forward-auth`: `passed`, or why a request does not pass",
        );
        for (place, decision) in DECISIONS.into_iter().enumerate() {
            let count = self.sum(|worker| worker.decided.get(place));
            decisions.sample(&[("decision", decision)], as_f64(count));
        }
    }

    fn tell_of_routes(&self, page: &mut Page) {
        let told: Vec<(&str, [u64; CLASSES.len()], Distribution)> = self.told().collect();
        let help = "requests by route and by the class of the status, `none` where the connection ended before";
        let mut requests = page.counters("tenmint_http_requests_total", help);
        for (route, classes, _) in &told {
            for (class, count) in CLASSES.into_iter().zip(classes) {
                requests.sample(&[("route", *route), ("status", class)], as_f64(*count));
            }
        }
        let help = "how long requests took until their answer began; at `/oauth/revocations` that is mostly waiting";
        let mut durations = page.histograms("tenmint_http_request_duration_seconds", help);
        for (route, _, distribution) in &told {
            durations.distribution(&[("route", *route)], distribution);
        }
    }

    /// The routes that there is something to tell of.
    fn told(&self) -> impl Iterator<Item = (&'static str, [u64; CLASSES.len()], Distribution)> {
        self.routes.iter().enumerate().filter_map(|(place, route)| {
            let of_route = || self.workers.all().filter_map(move |worker| worker.routes.get(place));
            let classes = std::array::from_fn(|class| {
                of_route().filter_map(|counts| Some(counts.classes.get(class)?.get())).sum()
            });
            let durations = of_route().map(|counts| &counts.durations);
            let distribution = durations.fold(Distribution::default(), Distribution::with);
            let is_told = place < ALWAYS_TOLD || distribution.count() > 0;
            is_told.then_some((*route, classes, distribution))
        })
    }

    fn sum<'s>(&'s self, counter: impl Fn(&'s Counts) -> Option<&'s Counter>) -> u64 {
        self.workers.all().filter_map(counter).map(Counter::get).sum()
    }
}

/// Counts under a name; the last counter is for all that have none.
fn count(counters: &[Counter], names: &[&str], name: &str) {
    let found = names.iter().zip(counters).find(|(known, _)| **known == name);
    if let Some(counter) = found.map(|(_, counter)| counter).or(counters.last()) {
        counter.add(1);
    }
}

/// Where a listener counts.
#[derive(Debug, Clone)]
pub(in crate::http) struct Counting {
    pub(in crate::http) requests: Arc<Requests>,
    pub(in crate::http) clock: Clock,
    /// Whether connections count too. Only those to the public listener do: a second one that is empty
    /// would hide that the first is full.
    pub(in crate::http) of_connections: bool,
}

/// A request that is being answered, counted when it goes.
pub(in crate::http) struct Flight<'c> {
    counting: Option<&'c Counting>,
    began: Duration,
    route: &'static str,
    /// The place of the class of its status.
    class: usize,
}

impl<'c> Flight<'c> {
    /// One that just came, at this route as far as its path tells.
    pub(in crate::http) fn begin(counting: Option<&'c Counting>, route: &'static str) -> Self {
        let began = counting.map(|counting| {
            counting.requests.workers.mine().in_flight.add(1);
            counting.clock.steady()
        });
        Self { counting, began: began.unwrap_or_default(), route, class: 0 }
    }

    /// It was answered so, and this is its route.
    pub(in crate::http) fn answered(&mut self, route: &'static str, status: StatusCode) {
        self.route = route;
        self.class = usize::from(status.as_u16() / 100).saturating_sub(1);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(Counting { requests, clock, .. }) = self.counting else { return };
        let worker = requests.workers.mine();
        worker.in_flight.lower();
        let Some(counts) = worker.routes.get(requests.place_of(self.route)) else { return };
        if let Some(class) = counts.classes.get(self.class) {
            class.add(1);
        }
        counts.durations.record(clock.steady().saturating_sub(self.began));
    }
}

/// An open connection, counted until it goes.
pub(in crate::http) struct Connected(Option<Arc<Requests>>);

impl Connected {
    /// One that was just accepted.
    pub(in crate::http) fn new(counting: Option<&Counting>) -> Self {
        let counting = counting.filter(|counting| counting.of_connections);
        let requests = counting.map(|counting| counting.requests.clone());
        if let Some(requests) = &requests {
            requests.connections.add(1);
        }
        Self(requests)
    }

    /// So many there may be at once.
    pub(in crate::http) fn allow(counting: Option<&Counting>, connections: u32) {
        if let Some(counting) = counting.filter(|counting| counting.of_connections) {
            counting.requests.allowed_connections.add(connections.into());
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(requests) = &self.0 {
            requests.connections.lower();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_one_place_and_an_unknown_one_none_of_its_own() {
        let requests = Requests::default();
        assert_eq!(requests.place_of("/oauth/token"), 0, "found at the first look");
        for (place, route) in requests.routes.iter().enumerate() {
            assert_eq!(requests.place_of(route), place, "{route}");
        }
        assert_eq!(requests.place_of("/nowhere"), requests.place_of(NO_ROUTE));
        assert!(requests.routes.contains(&"/v1/keys/{id}"), "{:?}", requests.routes);
    }

    #[test]
    fn a_reason_without_a_name_is_counted_as_another_one() {
        let requests = Requests::default();
        for reason in ["revoked", "made up", "other"] {
            requests.refused(reason);
        }
        let counts = |reason: &str| {
            let place = REASONS.iter().position(|known| *known == reason).unwrap();
            requests.sum(|worker| worker.refused.get(place))
        };
        assert_eq!((counts("revoked"), counts("other")), (1, 2));
    }
}
