//! An operation as the document tells it, and how to ask for it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// An operation, as the document tells it.
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) method: String,
    path: String,
    pub(super) plane: String,
    queries: Vec<String>,
    pub(super) statuses: Vec<String>,
    /// The schema of the body; `null` where it takes none.
    schema: Value,
    /// What its body is sent as: JSON, or JSON lines.
    pub(super) media_type: &'static str,
}

impl Operation {
    pub(super) fn all(document: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, told) in methods.as_object().unwrap() {
                all.push(Self::of(document, path, method, told));
            }
        }
        assert!(all.len() >= 50, "the search finds no operations any more");
        all
    }

    fn of(document: &Value, path: &str, method: &str, told: &Value) -> Self {
        let queries = told["parameters"].as_array().into_iter().flatten();
        let queries = queries.filter(|parameter| parameter["in"] == "query");
        let content = &told["requestBody"]["content"];
        let known = ["application/json", "application/x-ndjson"];
        let media_type = known.into_iter().find(|known| !content[known].is_null());
        assert_eq!(media_type.is_some(), !content.is_null(), "{path} takes what else?");
        let media_type = media_type.unwrap_or(known[0]);
        Self {
            id: told["operationId"].as_str().unwrap().to_owned(),
            method: method.to_uppercase(),
            path: path.to_owned(),
            plane: told["x-tenmint-plane"].as_str().unwrap().to_owned(),
            queries: queries.map(|one| one["name"].as_str().unwrap().to_owned()).collect(),
            statuses: told["responses"].as_object().unwrap().keys().cloned().collect(),
            schema: resolved(document, &content[media_type]["schema"]),
            media_type,
        }
    }

    /// What the parameters of its path name, in their order: the segment before tells.
    pub(super) fn places(&self) -> Vec<&'static str> {
        let segments: Vec<&str> = self.path.split('/').collect();
        let pairs = segments.windows(2).filter(|pair| pair[1].starts_with('{'));
        pairs
            .map(|pair| noun_of(pair[0]).unwrap_or_else(|| panic!("what is in {}?", self.path)))
            .collect()
    }

    /// Its path, with what a tenant has.
    pub(super) fn target(&self, tenant: &Tenant) -> String {
        self.target_with(tenant, usize::MAX, "")
    }

    /// The same with a name of somebody else at one place.
    pub(super) fn target_with(&self, tenant: &Tenant, other_at: usize, other: &str) -> String {
        let mut target = self.path.clone();
        for (at, noun) in self.places().into_iter().enumerate() {
            let name = if at == other_at { other } else { &tenant.name(noun) };
            let (before, rest) = target.split_once('{').unwrap();
            let (_, after) = rest.split_once('}').unwrap();
            target = format!("{before}{}{after}", encoded(name));
        }
        target
    }

    /// A target that stores nothing, where the operation would store something.
    pub(super) fn dry(&self, target: &str) -> String {
        let can = self.queries.iter().any(|query| query == "dry_run");
        assert!(can || self.method == "GET", "{} has no dry run", self.id);
        if can { with(target, "dry_run", "true") } else { target.to_owned() }
    }

    /// A body with what has to be there; `null` for none.
    pub(super) fn body(&self) -> Value {
        if self.schema.is_null() {
            return Value::Null;
        }
        let required = self.schema["required"].as_array().into_iter().flatten();
        let names = required.map(|name| name.as_str().unwrap());
        names.map(|name| (name.to_owned(), sample_of(name))).collect::<Map<_, _>>().into()
    }

    /// The same with one field that names something.
    pub(super) fn body_naming(&self, field: &str, name: &str) -> Value {
        let mut body = self.body();
        let is_list = self.schema["properties"][field]["items"].is_object();
        body[field] = if is_list { json!([name]) } else { json!(name) };
        if field == "bot" {
            body["key_type"] = json!("service");
        }
        body
    }

    /// Parameters of the query that name something.
    pub(super) fn named_queries(&self) -> Vec<(&str, &'static str)> {
        const PLAIN: &[&str] = &[
            "organization",
            "dry_run",
            "atomic",
            "limit",
            "cursor",
            "status",
            "name",
            "key_type",
            "since",
            "until",
            "by",
            "action",
            "outcome",
            "days",
            "locked_out",
            "scope",
        ];
        named(self.queries.iter().map(String::as_str), PLAIN)
    }

    /// Fields of the body that name something.
    pub(super) fn named_fields(&self) -> Vec<(&str, &'static str)> {
        const PLAIN: &[&str] = &[
            "name",
            "description",
            "key_type",
            "scopes",
            "allow",
            "block",
            "quota",
            "expires_at",
            "grace_period_seconds",
            "force",
            "slug",
            "uri",
            "actions",
            "paths",
            "token_lifetime",
            "token_type",
            "raw_keys",
            "rules",
            "shared",
            "email",
            "level",
            "grants",
            "account_role",
            "digest",
            "quota_limit",
            "quota_window",
            "algorithm",
        ];
        let properties = self.schema["properties"].as_object().into_iter().flatten();
        named(properties.map(|(name, _)| name.as_str()), PLAIN)
    }
}

fn named<'n>(names: impl Iterator<Item = &'n str>, plain: &[&str]) -> Vec<(&'n str, &'static str)> {
    names
        .filter(|name| !plain.contains(name))
        .map(|name| (name, noun_of(name).unwrap_or_else(|| panic!("what does `{name}` name?"))))
        .collect()
}

/// What a segment before a parameter, a parameter of a query or a field names.
fn noun_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "keys" | "object" | "api_key" => "api_key",
        "organizations" => "organization",
        "spaces" | "space" => "space",
        "audiences" | "default_audience" | "audience" => "audience",
        "users" => "user",
        "bots" | "bot" | "members" | "owners" | "owner" | "admins" | "actor" => "bot",
        "gateway-policies" => "gateway_policy",
        "signing-keys" => "signing_key",
        "roles" | "role" | "space_role" | "org_role" => "role",
        _ => return None,
    })
}

/// What a field that has to be there can hold.
fn sample_of(field: &str) -> Value {
    match field {
        "name" | "slug" => json!("walked"),
        "uri" => json!("https://walked.example.com"),
        "email" => json!("walked@example.com"),
        "audience" => json!("mine-api"),
        "rules" => json!([{"path": "/walked"}]),
        "level" => json!("organization"),
        "scopes" => json!(["read:org/keys/*"]),
        "role" => json!("member"),
        "digest" => json!("ab".repeat(32)),
        _ => panic!("what is a `{field}` like?"),
    }
}

/// A schema in place of the reference to it.
fn resolved(document: &Value, schema: &Value) -> Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap().clone(),
        None => schema.clone(),
    }
}

/// A target with one more parameter.
pub(super) fn with(target: &str, name: &str, value: &str) -> String {
    let separator = if target.contains('?') { '&' } else { '?' };
    format!("{target}{separator}{name}={}", encoded(value))
}

fn encoded(text: &str) -> String {
    text.replace(':', "%3A").replace('/', "%2F")
}

/// The names of one thing of each noun: its id first, then what else it is found by.
#[derive(Default)]
pub(super) struct Tenant {
    pub(super) names: BTreeMap<&'static str, Vec<String>>,
}

impl Tenant {
    pub(super) fn names(&self, noun: &str) -> &[String] {
        self.names.get(noun).unwrap_or_else(|| panic!("no {noun}"))
    }

    pub(super) fn name(&self, noun: &str) -> String {
        self.names(noun)[0].clone()
    }

    pub(super) fn has(&mut self, noun: &'static str, made: &Value, others: &[&str]) {
        let others = others.iter().map(|field| &made[field]);
        let names = [&made["id"]].into_iter().chain(others);
        self.names.insert(noun, names.map(|name| name.as_str().unwrap().to_owned()).collect());
    }
}
