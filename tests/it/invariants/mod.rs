//! The invariants of the contract, against a model of its own.
//!
//! Random sequences of what administrators, owners and holders of keys do are done to one node, and
//! another node follows. After each step every text that was ever shown is tried on both: what comes
//! of it is what the model says, whatever was asked. At the end of a sequence a third node, which
//! reads everything anew, says the same.

mod doing;
mod model;
mod steps;

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use tenmint::error::{Error, Result};
use tenmint::mint::{Caller, ClientCredential, Mint, Refused, TokenRequest};
use tenmint::model::access::{Actor, Credential, Origin};
use tenmint::model::api_key::{ApiKey, CreateApiKey, CreatedApiKey};
use tenmint::model::audience::CreateAudience;
use tenmint::model::id::{OrgId, UserId};
use tenmint::model::org::{BootstrapOrg, CreateOrg};
use tenmint::model::role::{CreateRole, Level};
use tenmint::model::secret::PlainSecret;
use tenmint::model::space::CreateSpace;
use tenmint::model::user::CreateUser;
use tenmint::service::Service;
use tenmint::service::api_keys::ListApiKeys;
use tenmint::service::audit::AuditFilter;
use tenmint::service::call::{Call, Idempotency};
use tenmint::service::node::{Node, NodeConfig};

use crate::invariants::model::{
    Asked, Key, Model, Org, Outcome, Owner, Role, SCOPES, Space, Target, Text, reach,
};
use crate::invariants::steps::{Step, step};
use crate::server::{Server, on_both_engines, operator};

/// The person who is a member of both organizations.
const PERSON: &str = "ada@example.com";
/// Takes tokens of all organizations.
const SHARED: &str = "https://shared.example.com";

fn milliseconds(minutes: u32) -> i64 {
    i64::from(minutes) * 60_000
}

/// Sequences an engine; `tests/run --long` asks for more.
fn cases() -> u32 {
    std::env::var("TENMINT_INVARIANT_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

/// What was seen over all sequences: a test that never sees a token proves nothing about tokens.
#[derive(Default)]
struct Seen {
    texts: HashSet<String>,
    tokens: usize,
    dead: usize,
    wrong_targets: usize,
    beyond_scope: usize,
    done: usize,
    refused: usize,
    sequences: usize,
}

on_both_engines! {
    async fn no_sequence_of_operations_breaks_an_invariant(server: Server) {
        let seen = Mutex::new(Seen::default());
        let asked = (option::of(vec(select(SCOPES.as_slice()), 1..3)), option::of(target()));
        let asked = asked.prop_map(|(scopes, target)| Asked { scopes, target });
        let sequence = vec((prop::bool::weighted(0.1), step(), vec(asked, 3)), 10..50);
        let config = ProptestConfig {
            failure_persistence: None,
            max_shrink_iters: 200,
            ..ProptestConfig::with_cases(cases())
        };
        tokio::task::block_in_place(|| {
            let done = TestRunner::new(config).run(&sequence, |sequence| {
                tokio::runtime::Handle::current().block_on(hold(&server, &seen, sequence));
                Ok(())
            });
            if let Err(cause) = done {
                panic!("{cause}");
            }
        });
        let seen = seen.into_inner().unwrap();
        println!(
            "{} sequences, {} steps done, {} refused, {} texts; {} tokens, {} dead, {} for a wrong \
             audience, {} beyond scope",
            seen.sequences, seen.done, seen.refused, seen.texts.len(), seen.tokens, seen.dead,
            seen.wrong_targets, seen.beyond_scope
        );
        for often in [seen.tokens, seen.dead, seen.wrong_targets, seen.beyond_scope, seen.done] {
            assert!(often > 100, "hardly anything was tried");
        }
        check_texts_are_nowhere(&server, &seen.texts);
    }
}

fn target() -> impl Strategy<Value = Target> {
    select(vec![
        Target::Api(0, 0),
        Target::Api(0, 1),
        Target::Api(1, 0),
        Target::Api(1, 1),
        Target::Shared,
        Target::Management,
    ])
}

async fn hold(server: &Server, seen: &Mutex<Seen>, sequence: Vec<(bool, Step, Vec<Asked>)>) {
    let mut case = Case::start(server, seen).await;
    for (dry_run, step, asked) in sequence {
        let what = format!("{step:?}, dry run {dry_run}");
        let done = case.step(step, dry_run).await;
        match done {
            Ok(()) => case.seen.lock().unwrap().done += 1,
            Err(Error::Broken(cause)) => panic!("{what}: {cause}"),
            Err(_) => case.seen.lock().unwrap().refused += 1,
        }
        case.check(&asked, &what).await;
    }
    case.end().await;
}

/// Two organizations on two nodes, and the model of them.
struct Case<'s> {
    server: &'s Server,
    follower: Node,
    seen: &'s Mutex<Seen>,
    model: Model,
    number: usize,
    orgs: Vec<OrgId>,
    /// The role that each organization defined.
    roles: Vec<String>,
    person: UserId,
}

impl<'s> Case<'s> {
    async fn start(server: &'s Server, seen: &'s Mutex<Seen>) -> Self {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.sequences += 1;
            seen.sequences
        };
        let model = Model {
            now: server.clock.now().as_millis(),
            orgs: Vec::new(),
            owners: Vec::new(),
            keys: Vec::new(),
            person_suspended: false,
        };
        let (follower, person) = (another_node(server).await, UserId::from_random([0; 16]));
        let (orgs, roles) = (Vec::new(), Vec::new());
        let mut case = Self { server, follower, seen, model, number, orgs, roles, person };
        if number == 1 {
            let uri = Some(SHARED.to_owned());
            let ask = CreateAudience { uri, shared: Some(true), ..CreateAudience::default() };
            server.service.create_audience(&server.call(), ask).await.unwrap();
        }
        for org in 0..2 {
            case.found(org).await;
        }
        // the person of the sequence before may be suspended still
        server.service.suspend_person(&case.call(0, false), &case.person, false).await.unwrap();
        case
    }

    /// An organization with two spaces, two audiences, a role and a person.
    async fn found(&mut self, org: usize) {
        let (service, slug) = (&self.server.service, format!("o{}-{org}", self.number));
        let founder = self.server.call();
        let ask = CreateOrg { slug: Some(slug.clone()), name: None };
        self.orgs.push(service.create_org(&founder, ask).await.unwrap().after.id);
        let ask = BootstrapOrg { audience: Some(self.uri(Target::Api(org, 0))) };
        service.bootstrap_org(&founder, &slug, ask).await.unwrap();
        let call = self.call(org, false);
        let uri = Some(self.uri(Target::Api(org, 1)));
        let ask = CreateAudience { uri, ..CreateAudience::default() };
        service.create_audience(&call, ask).await.unwrap();
        for slug in ["s0", "s1"] {
            let ask = CreateSpace { slug: Some(slug.to_owned()), name: None };
            service.create_space(&self.call(org, false), ask).await.unwrap();
        }
        let defined = vec!["read:projects/*"];
        let ask = CreateRole {
            name: Some("defined".to_owned()),
            level: Some(Level::Organization),
            scopes: Some(vec![defined[0].to_owned()]),
        };
        let role = service.create_role(&self.call(org, false), ask).await.unwrap().after;
        self.roles.push(role.id.to_string());
        let ask = CreateUser { email: Some(PERSON.to_owned()), ..CreateUser::default() };
        let person = service.create_user(&self.call(org, false), ask).await.unwrap().after.id;
        self.person = person;
        self.model.orgs.push(Org {
            suspended: false,
            spaces: [Space::default(), Space::default()],
            defined,
        });
        self.model.owners.push(Owner {
            id: person.to_string(),
            org,
            space: None,
            grants: Vec::new(),
            org_role: Some(Role::Member),
            space_roles: [None; 2],
            suspended: false,
            gone: false,
        });
    }

    fn uri(&self, target: Target) -> String {
        match target {
            Target::Api(org, at) => format!("https://o{}-{org}.example.com/{at}", self.number),
            Target::Shared => SHARED.to_owned(),
            Target::Management => format!("{}/v1", self.server.mint.issuer()),
        }
    }

    /// Targets as they were chosen, of this organization where they are of one.
    fn of_org(&self, targets: &[Target], org: usize) -> Vec<Target> {
        let mut own: Vec<Target> = Vec::new();
        for target in targets {
            let target = match target {
                Target::Api(_, at) => Target::Api(org, *at),
                other => *other,
            };
            if !own.contains(&target) {
                own.push(target);
            }
        }
        own
    }

    fn name_of(&self, role: Role) -> String {
        let name = match role {
            Role::ReadOnly => "read-only",
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Defined => "defined",
        };
        name.to_owned()
    }

    fn key(&self, chosen: usize) -> Result<usize> {
        let none = || Error::NotFound("API key".to_owned());
        chosen.checked_rem(self.model.keys.len()).ok_or_else(none)
    }

    fn org_of(&self, key: usize) -> usize {
        self.model.owners[self.model.keys[key].owner].org
    }

    /// A call of somebody who may do everything.
    fn call(&self, org: usize, dry_run: bool) -> Call {
        self.called(operator(self.orgs[org]), dry_run)
    }

    /// A call of an owner with all that it holds, and the right to its own keys.
    fn call_of(&self, owner: usize, dry_run: bool) -> Call {
        let of = &self.model.owners[owner];
        let mut scopes = self.model.scopes_of(owner);
        scopes.push("write:org/keys/own/*".to_owned());
        let credential = Credential {
            owner: of.id.parse().unwrap(),
            scopes: Some(scopes.join(" ").parse().unwrap()),
            is_account_admin: false,
            ..operator(self.orgs[of.org]).credential
        };
        self.called(Actor { credential, origin: Origin::default() }, dry_run)
    }

    fn called(&self, actor: Actor, dry_run: bool) -> Call {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let key = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_string();
        let (route, hash) = (String::new(), String::new());
        let idempotency = Some(Idempotency { key, route, hash });
        Call { org: actor.credential.org, actor, dry_run, idempotency, misread: Vec::new() }
    }

    /// Creates a key, asks again under the same key of idempotency, and gives the text.
    async fn created(&self, call: &Call, ask: CreateApiKey) -> Result<Option<(ApiKey, String)>> {
        let service = &self.server.service;
        let created = service.create_api_key(call, ask.clone()).await?.after;
        let api_key = created.api_key.clone();
        let Some(text) = self.shown_once(created) else { return Ok(None) };
        let repeated = service.create_api_key(call, ask).await?.after;
        assert!(repeated.text.is_none() && repeated.api_key.id == api_key.id, "made twice");
        Ok(Some((api_key, text)))
    }

    /// The text of a new key: like no other that was ever shown.
    fn shown_once(&self, created: CreatedApiKey) -> Option<String> {
        let text = created.text?.reveal();
        assert!(self.seen.lock().unwrap().texts.insert(text.clone()), "a text came twice");
        Some(text)
    }

    async fn wind(&mut self, minutes: u32) {
        self.server.wind(Duration::from_mins(minutes.into())).await;
        self.model.now = self.server.clock.now().as_millis();
    }

    /// Tries every text on both nodes: without asking for anything, asking for all that the key was
    /// given, and with what was asked.
    async fn check(&self, asked: &[Asked], what: &str) {
        self.follower.follower.catch_up().await.unwrap();
        for key in &self.model.keys {
            let own = Asked { scopes: key.scopes.clone(), target: None };
            for text in &key.texts {
                for asked in [&Asked::default(), &own].into_iter().chain(asked) {
                    let expected = self.model.outcome(key, text, asked);
                    for mint in [&self.server.mint, &self.follower.mint] {
                        let found = self.try_text(mint, key, text, asked).await;
                        assert_eq!(found, expected, "after {what}: {asked:?} {key:?}");
                    }
                    self.seen.lock().unwrap().count(expected);
                }
            }
        }
    }

    async fn try_text(&self, mint: &Mint, key: &Key, text: &Text, asked: &Asked) -> Outcome {
        let request = TokenRequest {
            client: ClientCredential {
                client_id: Some(key.id.to_string()),
                texts: vec![PlainSecret::new(text.text.clone())],
            },
            scope: asked.scopes.as_ref().map(|scopes| scopes.join(" ")),
            audience: asked.target.map(|target| self.uri(target)),
            ..TokenRequest::default()
        };
        let from = Caller { address: Some([127, 0, 0, 1].into()), user_agent: None };
        match mint.issue(&request, from, self.server.clock.now()) {
            Ok(unrecorded) => {
                let issued = unrecorded.await.unwrap();
                // what was asked for is granted whole, as it was written
                assert!(request.scope.as_ref().is_none_or(|scope| scope == issued.scope.as_str()));
                self.outcome_of(key, &claims(&issued.access_token))
            }
            Err(
                Refused::UnknownClient
                | Refused::Revoked
                | Refused::Expired
                | Refused::Replaced
                | Refused::Suspended,
            ) => Outcome::Dead,
            Err(Refused::InvalidTarget | Refused::ManagementInGrace | Refused::NoTarget) => {
                Outcome::WrongTarget
            }
            Err(Refused::ScopeBeyondKey(_) | Refused::NoScope) => Outcome::BeyondScope,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// What a token says, once it is seen to be of its key, owner and organization.
    fn outcome_of(&self, key: &Key, claims: &Value) -> Outcome {
        let owner = &self.model.owners[key.owner];
        assert_eq!(claims["org"], self.orgs[owner.org].to_string());
        assert_eq!(claims["sub"], owner.id);
        assert_eq!(claims["client_id"], key.id.to_string());
        assert_eq!(claims["iat"], self.model.now / 1000);
        let scopes = claims["scope"].as_str().unwrap();
        let targets = [0, 1].into_iter().flat_map(|org| [Target::Api(org, 0), Target::Api(org, 1)]);
        let mut targets = targets.chain([Target::Shared, Target::Management]);
        Outcome::Token {
            reach: reach(scopes.split(' ')),
            target: targets.find(|target| claims["aud"] == self.uri(*target)).unwrap(),
            expires_at: claims["exp"].as_i64().unwrap(),
        }
    }

    /// A node that reads everything anew knows the same, and nothing that can be read holds a text.
    async fn end(self) {
        let anew = another_node(self.server).await;
        for key in &self.model.keys {
            for text in &key.texts {
                let expected = self.model.outcome(key, text, &Asked::default());
                let found = self.try_text(&anew.mint, key, text, &Asked::default()).await;
                assert_eq!(found, expected, "read anew: {key:?}");
            }
        }
        anew.stop().await;
        for org in &self.orgs {
            let told = told(&self.server.service, *org).await;
            for text in self.model.keys.iter().flat_map(|key| &key.texts) {
                assert!(!told.contains(secret_of(&text.text)), "a text can be read");
            }
        }
        self.follower.stop().await;
    }
}

impl Seen {
    fn count(&mut self, outcome: Outcome) {
        let seen = match outcome {
            Outcome::Token { .. } => &mut self.tokens,
            Outcome::Dead => &mut self.dead,
            Outcome::WrongTarget => &mut self.wrong_targets,
            Outcome::BeyondScope => &mut self.beyond_scope,
        };
        *seen += 1;
    }
}

async fn another_node(server: &Server) -> Node {
    let keys_dir = server.directory.path().join("keys");
    let service = Service::open(&server.database, &keys_dir, server.clock.clone()).await.unwrap();
    Node::start(service, NodeConfig::in_directory(server.directory.path())).await.unwrap()
}

fn claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

/// The part of a text that nobody else may know: what is before it is shown in lists.
fn secret_of(text: &str) -> &str {
    &text[text.len() - 40..]
}

/// What the service tells of the keys of an organization, and of what was done to them.
async fn told(service: &Service, org: OrgId) -> String {
    let operator = operator(org);
    let ask = ListApiKeys { limit: 200, ..ListApiKeys::default() };
    let keys = service.list_api_keys(&operator, org, ask).await.unwrap();
    let filter = AuditFilter { org: Some(org), ..AuditFilter::default() };
    let (entries, _) = service.list_audit(&operator, &filter, (200, None)).await.unwrap();
    serde_json::to_string(&(keys.items, entries)).unwrap()
}

/// Nothing in the directory of the server holds a text; on PostgreSQL the database is elsewhere.
fn check_texts_are_nowhere(server: &Server, texts: &HashSet<String>) {
    let mut stored = Vec::new();
    for entry in std::fs::read_dir(server.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            stored.extend(std::fs::read(path).unwrap());
        }
    }
    let stored = String::from_utf8_lossy(&stored);
    for text in texts {
        assert!(!stored.contains(secret_of(text)), "a text is stored");
    }
}
