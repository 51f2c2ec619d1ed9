//! The catalogue of an audience: which scopes it knows, so that a typo is told when a key is made
//! and not when it is used.

use crate::error::InvalidField;
use schemars::JsonSchema;
use serde::Serialize;
use tenmint_verifier::{Action, ResourceFilter, ScopeSet, ScopeView};

/// What an audience knows. Without shapes, every path; without actions, the built-in ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ScopeCatalogue {
    /// The actions it knows beside `read`, `write` and `admin`, as `chat`.
    pub actions: Vec<String>,
    /// The shapes of its paths, as `projects/{id}/logs`.
    pub paths: Vec<String>,
}

/// Actions or shapes that a catalogue may have.
const MAX_ENTRIES: usize = 200;
const BUILT_IN: [&str; 4] = ["read", "write", "admin", "*"];

impl ScopeCatalogue {
    /// A catalogue of these actions and shapes.
    ///
    /// # Errors
    /// What is malformed, with the fix.
    pub fn parse(actions: Vec<String>, paths: Vec<String>) -> Result<Self, Vec<InvalidField>> {
        let mut wrong = wrong_in("actions", &actions, |text| Action::named(text).map(drop));
        wrong.extend(wrong_in("paths", &paths, |text| filter_of(text).map(drop)));
        if wrong.is_empty() { Ok(Self { actions, paths }) } else { Err(wrong) }
    }

    /// Whether the audience knows a scope: its action, and at least one path that it selects.
    fn knows(&self, scope: ScopeView<'_>) -> bool {
        self.knows_action(scope.action()) && self.knows_filter(scope.filter())
    }

    fn knows_action(&self, action: &str) -> bool {
        BUILT_IN.contains(&action) || self.actions.iter().any(|known| known == action)
    }

    fn knows_filter(&self, filter: &str) -> bool {
        let Ok(filter) = filter.parse::<ResourceFilter>() else { return false };
        let shapes = || self.paths.iter().filter_map(|path| filter_of(path).ok());
        self.paths.is_empty() || shapes().any(|shape| shape.intersect(&filter).is_some())
    }

    /// The known scope that is nearest to an unknown one.
    fn nearest(&self, scope: ScopeView<'_>) -> (usize, String) {
        let actions = BUILT_IN.into_iter().chain(self.actions.iter().map(String::as_str));
        let action = nearest_of(scope.action(), actions.filter(|action| *action != "*"));
        let filter = if self.knows_filter(scope.filter()) {
            (0, scope.filter().to_owned())
        } else {
            let paths = self.paths.iter().map(|path| like(path, scope.filter()));
            paths.min().unwrap_or_else(|| (scope.filter().len(), scope.filter().to_owned()))
        };
        let text = if scope.as_str().contains(':') {
            format!("{}:{}", action.1, filter.1)
        } else {
            action.1.clone()
        };
        (action.0 + filter.0, text)
    }
}

/// What is wrong with a list, entry by entry.
fn wrong_in<E: std::fmt::Display>(
    field: &'static str,
    list: &[String],
    check: impl Fn(&str) -> Result<(), E>,
) -> Vec<InvalidField> {
    let wrong = |message| InvalidField { field: field.into(), message };
    if list.len() > MAX_ENTRIES {
        return vec![wrong(format!("a catalogue has at most {MAX_ENTRIES} {field}"))];
    }
    let told = |text: &String| Some(wrong(format!("`{text}`: {}", check(text).err()?)));
    list.iter().filter_map(told).collect()
}

/// What is wrong with scopes of a key for these audiences, each with its catalogue where it has one.
///
/// A scope is known if one audience knows it; an audience without catalogue knows all. The paths of
/// the management API are always known.
pub fn check(scopes: &ScopeSet, catalogues: &[Option<ScopeCatalogue>]) -> Result<(), String> {
    let all: Option<Vec<&ScopeCatalogue>> = catalogues.iter().map(Option::as_ref).collect();
    let Some(catalogues) = all.filter(|all| !all.is_empty()) else { return Ok(()) };
    for scope in scopes.iter().filter(|scope| !is_management(scope.filter())) {
        if catalogues.iter().any(|catalogue| catalogue.knows(scope)) {
            continue;
        }
        let nearest = catalogues.iter().map(|catalogue| catalogue.nearest(scope)).min();
        let (_, nearest) = nearest.unwrap_or_default();
        let scope = scope.as_str();
        return Err(format!("no audience of the key knows `{scope}`: did you mean `{nearest}`"));
    }
    Ok(())
}

fn is_management(filter: &str) -> bool {
    ["org", "space-management", "installation"]
        .iter()
        .any(|root| filter.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')))
}

/// The filter of a shape: `{name}` stands for one segment.
fn filter_of(path: &str) -> Result<ResourceFilter, String> {
    let segments: Vec<&str> = path.split('/').collect();
    let last = segments.len().saturating_sub(1);
    let filter: Vec<&str> = segments
        .iter()
        .enumerate()
        .map(|(at, segment)| match (segment.starts_with('{') && segment.ends_with('}'), at) {
            (true, at) if at == last => "?",
            (true, _) => "*",
            (false, _) => segment,
        })
        .collect();
    filter.join("/").parse().map_err(|cause: tenmint_verifier::SyntaxError| cause.to_string())
}

fn nearest_of<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> (usize, String) {
    known
        .map(|known| (distance(text, known), known.to_owned()))
        .min()
        .unwrap_or_else(|| (text.len(), text.to_owned()))
}

/// A known path with what a filter says in the place of its parameters, and how far that is from the
/// filter.
fn like(path: &str, filter: &str) -> (usize, String) {
    let (known, said) = (path.split('/'), filter.split('/'));
    let filled: Vec<&str> = if known.clone().count() == said.clone().count() {
        known
            .zip(said)
            .map(|(known, said)| if known.starts_with('{') { said } else { known })
            .collect()
    } else {
        known.collect()
    };
    let filled = filled.join("/");
    (distance(filter, &filled), filled)
}

/// How many characters have to be added, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.chars().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (to, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = changed.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        row.first_mut().into_iter().for_each(|first| *first = at + 1);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "an audience may have none")]
    fn catalogue() -> Option<ScopeCatalogue> {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let paths = words("projects/{id} projects/{id}/logs models/*");
        Some(ScopeCatalogue::parse(words("chat models.list"), paths).unwrap())
    }

    fn checked(scopes: &str) -> Result<(), String> {
        check(&scopes.parse().unwrap(), &[catalogue()])
    }

    #[test]
    fn what_selects_no_known_path_is_refused_with_the_nearest_name() {
        for known in [
            "read:projects/alpha",
            "read:projects/*",
            "write:projects/a/logs",
            "chat",
            "*:*",
            "models.list:models/gpt/x",
            "admin:org/keys/own/*",
        ] {
            assert_eq!(checked(known), Ok(()), "{known}");
        }
        for (unknown, nearest) in [
            ("chaat", "`chat`"),
            ("reed:projects/a", "`read:projects/a`"),
            ("read:project/a", "`read:projects/a`"),
            ("read:projects/a/logz", "`read:projects/a/logs`"),
        ] {
            let cause = checked(unknown).unwrap_err();
            assert!(cause.contains(nearest), "{unknown}: {cause}");
        }
    }

    #[test]
    fn an_audience_without_catalogue_knows_every_scope() {
        let unknown: ScopeSet = "nonsense".parse().unwrap();
        assert_eq!(check(&unknown, &[]), Ok(()));
        assert_eq!(check(&unknown, &[catalogue(), None]), Ok(()));
        assert!(check(&unknown, &[catalogue()]).is_err());
    }

    #[test]
    fn the_distance_counts_changed_characters() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("read", "read"), 0);
    }
}
