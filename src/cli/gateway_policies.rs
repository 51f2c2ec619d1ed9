//! `tenmint gateway-policies`: what requests need that come to an API through a gateway.

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::api::{Fields, Request};
use crate::cli::failure::Result;
use crate::cli::output::Column;
use crate::cli::session::{CreateArgs, ForceArgs, PageArgs, Session, WriteArgs};

/// Commands on gateway policies.
#[derive(Debug, Subcommand)]
pub(super) enum GatewayPoliciesCommand {
    /// List the gateway policies of the organization
    List(PageArgs),
    /// Show a gateway policy
    Show(PolicyArgs),
    /// Make a policy under which gateways ask at `/forward-auth`
    Create(NewPolicyArgs),
    /// Change a gateway policy, at once for every gateway
    Edit(EditPolicyArgs),
    /// Delete a gateway policy: what gateways ask under it is refused
    Delete(ForcedPolicyArgs),
}

static COLUMNS: [Column; 6] = [
    Column::text("id").titled("ID"),
    Column::text("name").titled("NAME"),
    Column::text("audience").titled("AUDIENCE"),
    Column::text("rules"),
    Column::text("organization"),
    Column::moment("created_at").titled("CREATED"),
];

/// One policy.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// Its id or name
    #[arg(value_name = "POLICY")]
    policy: String,
}

/// One policy, and something that cannot be undone.
#[derive(Debug, Args)]
pub(super) struct ForcedPolicyArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    force: ForceArgs,
}

/// Arguments of `tenmint gateway-policies create`.
#[derive(Debug, Args)]
pub(super) struct NewPolicyArgs {
    /// What gateways call it: 1 to 40 of a-z, 0-9 and `-`
    #[arg(value_name = "NAME")]
    name: String,
    /// The API behind the gateway: id, URI or slug of its audience
    #[arg(short, long, value_name = "AUDIENCE")]
    audience: String,
    /// `[METHODS] PATH [ACTION][:RESOURCE]`, as `GET,HEAD /v1/projects/{id} read:projects/{id}`; the
    /// first that fits counts. `{*rest}` at the end is all that follows. Left out: all methods; `read`
    /// or `write`, as the method says; the path without its first slash
    #[arg(short, long = "rule", required = true, value_name = "RULE")]
    rules: Vec<Rule>,
    #[command(flatten)]
    create: CreateArgs,
}

/// Arguments of `tenmint gateway-policies edit`.
#[derive(Debug, Args)]
pub(super) struct EditPolicyArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// The API behind the gateway: id, URI or slug of its audience
    #[arg(short, long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// All rules, in place of those that there are
    #[arg(short, long = "rule", value_name = "RULE")]
    rules: Option<Vec<Rule>>,
    #[command(flatten)]
    write: WriteArgs,
}

/// A rule as it is typed. What is in it the server judges.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule(Value);

impl FromStr for Rule {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (methods, path, needs) = match words.as_slice() {
            [path] if path.starts_with('/') => (None, path, ""),
            [path, needs] if path.starts_with('/') => (None, path, *needs),
            [methods, path] if path.starts_with('/') => (Some(*methods), path, ""),
            [methods, path, needs] if path.starts_with('/') => (Some(*methods), path, *needs),
            _ => return Err("write `[METHODS] PATH [ACTION][:RESOURCE]`, with a path from `/` on"),
        };
        let (action, resource) = match needs.split_once(':') {
            Some((action, resource)) => (action, Some(resource)),
            None => (needs, None),
        };
        let methods = methods.map(|list| list.split(',').collect::<Vec<_>>());
        let action = Some(action).filter(|action| !action.is_empty());
        Ok(Self(json!({"methods": methods, "path": path, "action": action, "resource": resource})))
    }
}

pub(super) async fn run(
    command: GatewayPoliciesCommand,
    session: &Session<'_>,
) -> Result<ExitCode> {
    match command {
        GatewayPoliciesCommand::List(page) => {
            session.list(Request::get(&["gateway-policies"]), &COLUMNS, page).await
        }
        GatewayPoliciesCommand::Show(args) => {
            session.show(Request::get(&["gateway-policies", &args.policy]), &COLUMNS).await
        }
        GatewayPoliciesCommand::Create(args) => {
            let fields = Fields::default()
                .with("name", Some(args.name))
                .with("audience", Some(args.audience))
                .with("rules", Some(values(args.rules)));
            let request = Request::post(&["gateway-policies"]).body(fields);
            session.create(request, &COLUMNS, args.create).await
        }
        GatewayPoliciesCommand::Edit(args) => {
            let fields = Fields::default()
                .with("audience", args.audience)
                .with("rules", args.rules.map(values));
            let request = Request::patch(&["gateway-policies", &args.policy.policy]);
            session.write(request.body(fields), &COLUMNS, args.write).await
        }
        GatewayPoliciesCommand::Delete(args) => {
            let policy = args.policy.policy;
            let deed = format!("delete gateway policy `{policy}`");
            let request = Request::delete(&["gateway-policies", &policy]);
            session.write_forced(&deed, request, &COLUMNS, args.force).await
        }
    }
}

fn values(rules: Vec<Rule>) -> Vec<Value> {
    rules.into_iter().map(|Rule(value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_typed_in_a_line() {
        let all = |methods: Value, action: Value, resource: Value| {
            Ok(Rule(
                json!({"methods": methods, "path": "/p/{id}", "action": action, "resource": resource}),
            ))
        };
        let none = Value::Null;
        for (text, rule) in [
            ("/p/{id}", all(none.clone(), none.clone(), none.clone())),
            ("GET,HEAD /p/{id}", all(json!(["GET", "HEAD"]), none.clone(), none.clone())),
            ("/p/{id} chat", all(none.clone(), json!("chat"), none.clone())),
            ("/p/{id} :q/{id}", all(none.clone(), none.clone(), json!("q/{id}"))),
            ("DELETE  /p/{id} admin:q", all(json!(["DELETE"]), json!("admin"), json!("q"))),
        ] {
            assert_eq!(text.parse::<Rule>(), rule, "{text}");
        }
        for text in ["", "GET", "p/{id}", "GET p read", "GET /p read x"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }
}
