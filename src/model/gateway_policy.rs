//! Gateway policies: what a request that a gateway asks about needs, told by its method and path.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tenmint_verifier::{Action, Resource};

use crate::error::InvalidField;
use crate::model::ask::asks;
use crate::model::id::{AudienceId, GatewayPolicyId, OrgId, Slug};
use crate::model::path_template::PathTemplate;
use crate::model::time::Timestamp;

/// Rules that a policy may have.
const MAX_RULES: usize = 32;
/// Methods that a rule may name.
const MAX_METHODS: usize = 16;
/// Characters of a method: the longest that is registered has 17.
const MAX_METHOD: usize = 32;

/// A policy, as it is stored.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct GatewayPolicy {
    /// Its id.
    pub id: GatewayPolicyId,
    /// Its organization.
    #[serde(rename = "organization")]
    pub org: OrgId,
    /// What gateways call it. It stays: it stands in their configuration.
    pub name: Slug,
    /// The API behind the gateway.
    pub audience: AudienceId,
    /// The first rule that fits counts; a request that fits none is refused.
    pub rules: GatewayRules,
    /// When it was made.
    pub created_at: Timestamp,
}

asks! {
    /// A gateway policy as somebody asks for it.
    pub struct CreateGatewayPolicy {
        /// What gateways call it: 1 to 40 of a-z, 0-9 and `-`, once in the organization.
        #[schemars(required, length(min = 1, max = 40), regex(pattern = "^[a-z0-9-]+$"))]
        pub name: String,
        /// The API behind the gateway: an audience of the organization, by id, URI or slug.
        #[schemars(required)]
        pub audience: String,
        /// The first rule that fits counts; a request that fits none is refused. 1 to 32.
        #[schemars(required)]
        pub rules: Vec<AskGatewayRule>,
    }

    /// What to change about a gateway policy. Its name stays.
    pub struct EditGatewayPolicy {
        /// The API behind the gateway.
        pub audience: String,
        /// All rules, in place of those that there are.
        pub rules: Vec<AskGatewayRule>,
    }
}

/// A rule as somebody asks for it, and as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskGatewayRule {
    /// The methods that it is about; all, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// The paths that it is about, as `/projects/{id}/logs`: `{id}` is one segment, `{*rest}` at the
    /// end one or more.
    pub path: String,
    /// What the request needs to be allowed; `null` for `read` or `write`, as the method says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// On which resource, as `projects/{id}`; the path without its first slash where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

/// The rules of a policy, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<AskGatewayRule>")]
#[serde(try_from = "Vec<AskGatewayRule>")]
pub struct GatewayRules(Box<[GatewayRule]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct GatewayRule {
    /// None for all.
    methods: Box<[Box<str>]>,
    path: PathTemplate,
    /// None for what the method says.
    action: Option<Action>,
    resource: PathTemplate,
}

/// What a request needs to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The action.
    pub action: Action,
    /// The resource.
    pub resource: Resource,
}

/// Why a policy has nothing to say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unruled {
    /// Two readers of the path could read it differently.
    NotCanonical,
    /// No rule is about it.
    NoRule,
}

impl GatewayRules {
    /// The rules that were asked for.
    ///
    /// # Errors
    /// One entry for each field of each rule that is wrong, as `rules[0].path`.
    pub fn parse(asked: Vec<AskGatewayRule>) -> Result<Self, Vec<InvalidField>> {
        if asked.is_empty() || asked.len() > MAX_RULES {
            let message = format!("a policy has 1 to {MAX_RULES} rules");
            return Err(vec![InvalidField { field: "rules".into(), message }]);
        }
        let (mut rules, mut wrong) = (Vec::with_capacity(asked.len()), Vec::new());
        for (place, ask) in asked.into_iter().enumerate() {
            let mut told = |field: &str, message: String| {
                let field = format!("rules[{place}].{field}").into();
                wrong.push(InvalidField { field, message });
            };
            rules.extend(GatewayRule::parse(ask, &mut told));
        }
        if wrong.is_empty() { Ok(Self(rules.into())) } else { Err(wrong) }
    }

    /// What a request of this method for this raw path needs. What follows a `?` is no part of it.
    ///
    /// # Errors
    /// [`Unruled`].
    pub fn needed(&self, method: &str, target: &str) -> Result<Needed, Unruled> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let path = path.strip_prefix('/').ok_or(Unruled::NotCanonical)?;
        if path.is_empty() {
            return Err(Unruled::NoRule);
        }
        let path: Resource = path.parse().map_err(|_| Unruled::NotCanonical)?;
        if holds_hidden_syntax(path.as_str()) {
            return Err(Unruled::NotCanonical);
        }
        let needed = self.0.iter().find_map(|rule| rule.needed(method, &path));
        needed.ok_or(Unruled::NoRule)
    }
}

/// Whether an escape hides what may part a path, once somebody decodes it: `/`, `\`, `%`, `?`, `#`,
/// `;` or a control.
///
/// They are canonical in a resource. But the API behind a gateway may decode a path before it takes
/// it apart, and would then see another one than was allowed: `x%2F..%2Fy` as `y`.
fn holds_hidden_syntax(path: &str) -> bool {
    path.split('%').skip(1).any(|escape| {
        let byte = escape.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_none_or(|byte| byte.is_ascii_control() || b"/\\%?#;".contains(&byte))
    })
}

impl GatewayRule {
    /// A rule, or nothing where something of it is wrong, which is told.
    fn parse(ask: AskGatewayRule, told: &mut impl FnMut(&str, String)) -> Option<Self> {
        let mut checked = |field: &str, parsed: Result<PathTemplate, String>| {
            parsed.map_err(|message| told(field, message)).ok()
        };
        let path = checked("path", parse_path(&ask.path));
        let resource = match (&ask.resource, &path) {
            (Some(text), path) => checked("resource", parse_resource(text, path.as_ref())),
            (None, path) => path.clone(),
        };
        let methods = parse_methods(ask.methods.unwrap_or_default());
        let methods = methods.map_err(|message| told("methods", message)).ok();
        let action = ask.action.map(|name| Action::named(&name)).transpose();
        let action = action.map_err(|cause| told("action", cause.to_string())).ok();
        Some(Self { methods: methods?, path: path?, action: action?, resource: resource? })
    }

    fn needed(&self, method: &str, path: &Resource) -> Option<Needed> {
        let is_about = self.methods.is_empty() || self.methods.iter().any(|one| **one == *method);
        let captures = self.path.captures(path).filter(|_| is_about)?;
        let action = self.action.clone().unwrap_or_else(|| Action::for_method(method));
        Some(Needed { action, resource: self.resource.fill(&captures)? })
    }
}

fn parse_path(text: &str) -> Result<PathTemplate, String> {
    let path = text.strip_prefix('/').ok_or("a path starts with `/`")?;
    let template: PathTemplate = path.parse()?;
    if holds_hidden_syntax(path) {
        return Err("no request with such an escape is let through".to_owned());
    }
    Ok(template)
}

fn parse_resource(text: &str, path: Option<&PathTemplate>) -> Result<PathTemplate, String> {
    let resource: PathTemplate = text.parse()?;
    match path.and_then(|path| resource.first_unknown_to(path)) {
        Some(unknown) => Err(format!("the path has no `{unknown}`")),
        None => Ok(resource),
    }
}

fn parse_methods(methods: Vec<String>) -> Result<Box<[Box<str>]>, String> {
    let is_method = |text: &String| is_method(text) && text.len() <= MAX_METHOD;
    if methods.len() > MAX_METHODS || !methods.iter().all(is_method) {
        return Err(format!("write at most {MAX_METHODS} methods, as `GET`"));
    }
    Ok(methods.into_iter().map(String::into_boxed_str).collect())
}

/// Capitals, with `-` between: all methods that are registered, and no word that a proxy could
/// spell otherwise.
pub fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

impl From<GatewayRules> for Vec<AskGatewayRule> {
    fn from(rules: GatewayRules) -> Self {
        let of = |rule: &GatewayRule| AskGatewayRule {
            methods: (!rule.methods.is_empty())
                .then(|| rule.methods.iter().map(|method| (**method).to_owned()).collect()),
            path: format!("/{}", rule.path),
            action: rule.action.as_ref().map(ToString::to_string),
            resource: Some(rule.resource.to_string()),
        };
        rules.0.iter().map(of).collect()
    }
}

impl TryFrom<Vec<AskGatewayRule>> for GatewayRules {
    type Error = String;

    fn try_from(stored: Vec<AskGatewayRule>) -> Result<Self, String> {
        let told = |wrong: &InvalidField| format!("`{}`: {}", wrong.field, wrong.message);
        Self::parse(stored).map_err(|wrong| wrong.iter().map(told).collect::<Vec<_>>().join(", "))
    }
}

impl JsonSchema for GatewayRules {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "GatewayRules".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let items = generator.subschema_for::<AskGatewayRule>();
        json_schema!({"type": "array", "minItems": 1, "maxItems": MAX_RULES, "items": items})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> AskGatewayRule {
        AskGatewayRule { methods: None, path: path.to_owned(), action: None, resource: None }
    }

    /// `METHODS PATH ACTION:RESOURCE`, with `-` for what is left out.
    fn rules(lines: &[&str]) -> GatewayRules {
        let said = |text: &str| (text != "-").then(|| text.to_owned());
        let ask = |line: &&str| {
            let mut words = line.split(' ');
            let methods = said(words.next().unwrap());
            AskGatewayRule {
                methods: methods.map(|list| list.split(',').map(str::to_owned).collect()),
                path: words.next().unwrap().to_owned(),
                action: words.next().and_then(said),
                resource: words.next().and_then(said),
            }
        };
        GatewayRules::parse(lines.iter().map(ask).collect()).unwrap()
    }

    /// What a request needs, as a scope, or why no rule says.
    fn needed(rules: &GatewayRules, method: &str, target: &str) -> String {
        match rules.needed(method, target) {
            Ok(Needed { action, resource }) => format!("{action}:{resource}"),
            Err(Unruled::NotCanonical) => "not canonical".to_owned(),
            Err(Unruled::NoRule) => "no rule".to_owned(),
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = rules(&[
            "DELETE /projects/{id} admin projects/{id}",
            "- /projects/{id}",
            "POST /v1/chat chat models/any",
            "- /files/{*path} - f/{*path}",
        ]);
        for (method, target, expected) in [
            ("GET", "/projects/alpha", "read:projects/alpha"),
            ("HEAD", "/projects/alpha?x=/../y", "read:projects/alpha"),
            ("PUT", "/projects/alpha", "write:projects/alpha"),
            ("PURGE", "/projects/alpha", "write:projects/alpha"),
            ("DELETE", "/projects/alpha", "admin:projects/alpha"),
            ("POST", "/v1/chat", "chat:models/any"),
            ("GET", "/v1/chat", "no rule"),
            ("GET", "/files/a/b", "read:f/a/b"),
            ("GET", "/projects", "no rule"),
            ("GET", "/Projects/alpha", "no rule"),
            ("GET", "/", "no rule"),
            ("GET", "/?projects/alpha", "no rule"),
        ] {
            assert_eq!(needed(&rules, method, target), expected, "{method} {target}");
        }
    }

    /// Each is refused, whatever rules there are.
    #[rustfmt::skip]
    const AMBIGUOUS: [&str; 47] = [
        "", "a", "*", "http://api/a", "//a", "/a//b", "/a/", "/./a", "/a/..", "/..", "/a/../b",
        "/%2e%2e/a", "/%2E%2E/a", "/a/%2E", "/a/.%2E/b", "/%61", "/a%2fb", "/a%2Fb", "/a%5Cb",
        "/x%2F..%2Fy", "/a\\b", "/a%", "/a%4", "/a%zz", "/a%00", "/a%0A", "/a%7F", "/a%252F",
        "/a%3Fb", "/a%23b", "/a%3Bb", "/a;b", "/a+b", "/a,b", "/a b", "/a#b", "/a*", "/a|b",
        "/\u{e9}", "/a\u{0}", "/a%C3%a9", "/a\"", "/a'b", "/(a)", "/a$", "/a&b", "/a!",
    ];

    #[test]
    fn a_path_that_two_readers_could_read_differently_is_refused() {
        let rules = rules(&["- /{*all}"]);
        for target in AMBIGUOUS {
            assert_eq!(needed(&rules, "GET", target), "not canonical", "{target:?}");
        }
        for (target, resource) in [
            ("/a", "a"),
            ("/a.b/...", "a.b/..."),
            ("/a%20b/%C3%A9", "a%20b/%C3%A9"),
            ("/a?", "a"),
            ("/a?b?c/../%2f#", "a"),
            ("/%2A", "%2A"),
            ("/a:b@c=d~e_f-g", "a:b@c=d~e_f-g"),
            ("/%FF", "%FF"),
        ] {
            assert_eq!(needed(&rules, "GET", target), format!("read:{resource}"), "{target:?}");
        }
    }

    #[test]
    fn every_bad_field_of_every_rule_is_told_at_once() {
        let bad = AskGatewayRule {
            methods: Some(vec!["get".to_owned()]),
            path: "a".to_owned(),
            action: Some("*".to_owned()),
            resource: Some("{id}".to_owned()),
        };
        let unknown = AskGatewayRule { resource: Some("{name}".to_owned()), ..rule("/{id}") };
        let hidden = rule("/a%2Fb");
        let wrong = GatewayRules::parse(vec![rule("/a"), bad, unknown, hidden]).unwrap_err();
        let fields: Vec<&str> = wrong.iter().map(|wrong| &*wrong.field).collect();
        let expected = [
            "rules[1].path",
            "rules[1].methods",
            "rules[1].action",
            "rules[2].resource",
            "rules[3].path",
        ];
        assert_eq!(fields, expected, "{wrong:?}");
        for many in [Vec::new(), vec![rule("/a"); MAX_RULES + 1]] {
            assert_eq!(GatewayRules::parse(many).unwrap_err()[0].field, "rules");
        }
    }

    #[test]
    fn rules_are_read_back_as_they_were_stored() {
        let stored = rules(&["GET,POST /a/{id}/{*rest} chat b/{*rest}", "- /c"]);
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<GatewayRules>(&text).unwrap(), stored);
        assert!(text.contains(r#"{"path":"/c","resource":"c"}"#), "{text}");
        assert!(serde_json::from_str::<GatewayRules>(r#"[{"path":"c"}]"#).is_err());
    }
}
