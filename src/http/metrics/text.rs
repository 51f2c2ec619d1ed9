//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

use crate::figures::Distribution;

/// The media type of the format.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of the labels of a sample.
pub(super) type Labels<'l> = &'l [(&'static str, &'l str)];

/// A page of figures.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A figure that goes up and down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.gauges(name, help).sample(&[], value);
    }

    /// A figure that only grows.
    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: f64) {
        self.counters(name, help).sample(&[], value);
    }

    /// Several gauges of one name.
    pub(super) fn gauges(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("gauge", name, help)
    }

    /// Several counters of one name.
    pub(super) fn counters(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("counter", name, help)
    }

    /// One or more histograms of one name, of seconds.
    pub(super) fn histograms(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("histogram", name, help)
    }

    fn family(&mut self, kind: &str, name: &'static str, help: &str) -> Family<'_> {
        // a text in memory takes whatever is written
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { page: self, name }
    }

    /// The text.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Samples of one name.
pub(super) struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// A sample.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, &[], value);
    }

    /// All lines of a histogram.
    pub(super) fn distribution(&mut self, labels: Labels<'_>, told: &Distribution) {
        for (bound, count) in told.cumulative() {
            let bound = bound.map_or("+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            self.line("_bucket", labels, &[("le", bound.as_str())], as_f64(count));
        }
        self.line("_sum", labels, &[], told.sum().as_secs_f64());
        self.line("_count", labels, &[], as_f64(told.count()));
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, more: Labels<'_>, value: f64) {
        let text = &mut self.page.0;
        let _ = write!(text, "{}{suffix}", self.name);
        let mut separator = '{';
        for (name, value) in labels.iter().chain(more) {
            let _ = write!(text, "{separator}{name}=\"{}\"", escaped(value));
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        let _ = match value {
            f64::INFINITY => writeln!(text, "{end} +Inf"),
            value => writeln!(text, "{end} {value}"),
        };
    }
}

/// A count as a value; above 2^53 the last digits are lost, as in Prometheus itself.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other numbers")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::figures::Histogram;

    #[test]
    fn a_page_reads_as_the_format_says() {
        let mut page = Page::default();
        page.gauge("age_seconds", "how old", f64::INFINITY);
        let mut counters = page.counters("requests_total", "how many");
        counters.sample(&[("route", "/a"), ("status", "2xx")], 3.0);
        counters.sample(&[("route", "\"\\\n")], 0.5);
        assert_eq!(
            page.into_text(),
            "# HELP age_seconds how old\n# TYPE age_seconds gauge\nage_seconds +Inf\n\
             # HELP requests_total how many\n# TYPE requests_total counter\n\
             requests_total{route=\"/a\",status=\"2xx\"} 3\n\
             requests_total{route=\"\\\"\\\\\\n\"} 0.5\n"
        );
    }

    #[test]
    fn a_histogram_has_a_line_for_each_bound_its_sum_and_its_count() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_millis(250));
        histogram.record(Duration::from_secs(11));
        let mut page = Page::default();
        let told = Distribution::default().with(&histogram);
        page.histograms("took_seconds", "how long").distribution(&[("route", "/a")], &told);
        let text = page.into_text();
        for line in [
            "took_seconds_bucket{route=\"/a\",le=\"0.0001\"} 0",
            "took_seconds_bucket{route=\"/a\",le=\"0.25\"} 1",
            "took_seconds_bucket{route=\"/a\",le=\"10\"} 1",
            "took_seconds_bucket{route=\"/a\",le=\"+Inf\"} 2",
            "took_seconds_sum{route=\"/a\"} 11.25",
            "took_seconds_count{route=\"/a\"} 2",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}: {text}");
        }
    }
}
