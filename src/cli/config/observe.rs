//! What a node tells of itself, and to whom.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::http::traces::{Ratio, TracesConfig};

/// The table `[observe]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Observe {
    listen: Option<String>,
    traces: Option<String>,
    traces_ratio: Option<f64>,
}

/// What flags and environment say of it; each may be absent, and an empty one switches off.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct ObserveOverrides {
    /// Where to tell figures.
    pub(in crate::cli) listen: Option<String>,
    /// The collector that is told of requests.
    pub(in crate::cli) traces: Option<String>,
    /// Of how many.
    pub(in crate::cli) traces_ratio: Option<String>,
}

impl Observe {
    /// Where figures are told, and who is told of requests.
    pub(super) fn read(
        self,
        overrides: ObserveOverrides,
    ) -> Result<(Option<String>, Option<TracesConfig>)> {
        let listen = overrides.listen.or(self.listen).filter(|address| !address.is_empty());
        let said = overrides.traces_ratio.filter(|ratio| !ratio.is_empty());
        let ratio = match said {
            Some(ratio) => Some(ratio.parse()),
            None => self.traces_ratio.map(Ratio::try_from),
        };
        let wrong = |cause| Error::invalid("observe.traces_ratio", cause);
        let ratio = ratio.transpose().map_err(wrong)?.unwrap_or_default();
        let endpoint = overrides.traces.or(self.traces).filter(|url| !url.is_empty());
        let endpoint = endpoint.map(|url| url.parse()).transpose();
        let endpoint = endpoint.map_err(|cause| Error::invalid("observe.traces", cause))?;
        Ok((listen, endpoint.map(|endpoint| TracesConfig { endpoint, ratio })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a table and of the two variables, in short.
    fn read(table: &str, traces: Option<&str>, ratio: Option<&str>) -> String {
        let said = |text: Option<&str>| text.map(str::to_owned);
        let overrides =
            ObserveOverrides { listen: None, traces: said(traces), traces_ratio: said(ratio) };
        let table: Observe = toml::from_str(table).unwrap();
        match table.read(overrides) {
            Ok((_, traces)) => format!("{traces:?}"),
            Err(cause) => cause.to_string(),
        }
    }

    #[test]
    fn a_collector_and_a_ratio_are_those_of_the_environment_or_the_file() {
        let file = "traces = 'http://a/v1/traces'\ntraces_ratio = 0.5";
        for (table, traces, ratio, told) in [
            ("", None, None, "None"),
            ("traces_ratio = 1", None, None, "None"),
            (file, None, None, "a/v1/traces), ratio: Ratio(0.5)"),
            (file, None, Some(""), "a/v1/traces), ratio: Ratio(0.5)"),
            (file, Some("https://b/v1/traces"), Some("0"), "b/v1/traces), ratio: Ratio(0.0)"),
            ("", Some("https://b/v1/traces"), None, "b/v1/traces), ratio: Ratio(1.0)"),
            (file, Some(""), None, "None"),
            ("traces = 'localhost:4318'", None, None, "`observe.traces`: write the URL"),
            (file, Some("ftp://b/v1/traces"), None, "`observe.traces`: write the URL"),
            ("traces_ratio = 2", None, None, "`observe.traces_ratio`: write a number"),
            (file, None, Some("half"), "`observe.traces_ratio`: write a number"),
        ] {
            let found = read(table, traces, ratio);
            assert!(found.contains(told), "{table} {traces:?} {ratio:?}: {found}");
        }
    }
}
