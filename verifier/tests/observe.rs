//! What metrics and traces tell of verifications, and what they never do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use tenmint_verifier::testing::TestIssuer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

const ORG: &str = "org_0000000000000000";

/// Counters by name and labels.
#[derive(Default)]
struct Counted(Mutex<BTreeMap<String, Arc<Count>>>);

#[derive(Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Recorder for Counted {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        Counter::from_arc(self.0.lock().unwrap().entry(name).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// All that is told, as text.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<String>>);

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Told {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn each_verification_is_counted_by_its_outcome_and_no_text_of_a_token_is_told() {
    let issuer = TestIssuer::new("https://api.example.com");
    let verifier = issuer.verifier();
    let good = issuer.token(ORG, "chat").sign();
    let other = TestIssuer::new("https://api.example.com").token(ORG, "chat").sign();
    let (counted, told) = (Counted::default(), Told::default());
    tracing::subscriber::with_default(told.clone(), || {
        metrics::with_local_recorder(&counted, || {
            for text in [&good, &good, &other, "garbage"] {
                drop(verifier.verify_held(text));
            }
        });
    });
    let counted: Vec<(String, u64)> = counted
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(name, count)| (name.clone(), count.0.load(Ordering::Relaxed)))
        .collect();
    let name = |outcome: &str| format!("tenmint_verifications_total outcome={outcome}");
    assert_eq!(counted, [(name("malformed"), 1), (name("unknown_key"), 1), (name("valid"), 2)]);
    let told = told.0.lock().unwrap().clone();
    assert!(told.contains(&format!("org=\"{ORG}\"")), "{told}");
    for text in [&good, &other].into_iter().flat_map(|token| token.split('.')) {
        assert!(!told.contains(text), "{told}");
    }
}
