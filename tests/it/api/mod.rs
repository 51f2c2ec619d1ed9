//! The management API, URL by URL: each test a promise of the contract, on both engines.

mod access;
mod addresses;
pub(crate) mod api_keys;
mod audiences;
mod audit;
mod audit_refusals;
mod bad_fields;
mod bad_input;
mod bots;
mod edits;
mod idempotency;
mod isolation;
mod lifecycle;
mod lists;
mod migration;
mod orgs;
mod roles;
mod spaces;
mod users;

use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Value, json};
use tenmint::model::api_key::{ApiKey, ApiKeySecret, ApiKeyType};
use tenmint::model::id::{ApiKeyId, OrgId};
use tenmint::model::ip_rules::IpRules;
use tenmint::model::owner::OwnerId;
use tenmint::model::secret::{Pepper, api_key_text};
use tenmint::service::master_key::{MasterKey, Sealed};
use tenmint::store::changes::Subject;
use tenmint::store::{Store, api_keys as stored_keys, installation};

use crate::server::{Answer, Key, Server};

/// A call of the administrator.
pub(crate) async fn call(server: &Server, method: &str, path: &str, body: Value) -> Answer {
    server.api(&server.administrator, method, path, body).await
}

/// What a call of the administrator answered, which has to succeed.
pub(crate) async fn good(server: &Server, method: &str, path: &str, body: Value) -> Value {
    good_of(server, &server.administrator, method, path, body).await
}

/// What a call answered, which has to succeed.
pub(crate) async fn good_of(
    server: &Server,
    key: &Key,
    method: &str,
    path: &str,
    body: Value,
) -> Value {
    let answer = server.api(key, method, path, body).await;
    assert!(matches!(answer.status, 200 | 201), "{method} {path}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
    answer.json()
}

/// An API key that the administrator makes as asked; a name is made up where none is given.
pub(crate) async fn key(server: &Server, mut ask: Value) -> Key {
    if ask["name"].is_null() {
        ask["name"] = json!("test");
    }
    key_of(&good(server, "POST", "/v1/keys", ask).await)
}

/// The key of an answer that shows its text.
pub(crate) fn key_of(made: &Value) -> Key {
    let text = made["api_key"].as_str().unwrap_or_else(|| panic!("no text: {made}"));
    Key { id: made["id"].as_str().unwrap().parse().unwrap(), text: text.to_owned() }
}

/// Where a key is.
fn at(key: &Key) -> String {
    format!("/v1/keys/{}", key.id)
}

/// `200`, or the status and code of a refusal, as `409 not_active`.
fn told(answer: &Answer) -> String {
    if answer.status < 300 {
        return answer.status.to_string();
    }
    let body = answer.json();
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert_eq!(body["status"], answer.status, "{answer:?}");
    assert!(body["detail"].is_string() && body["title"].is_string(), "{answer:?}");
    format!("{} {}", answer.status, body["code"].as_str().unwrap_or_default())
}

/// What came of a call of the administrator.
pub(crate) async fn outcome(server: &Server, method: &str, path: &str, body: Value) -> String {
    told(&call(server, method, path, body).await)
}

/// What came of a call.
pub(crate) async fn outcome_of(
    server: &Server,
    key: &Key,
    method: &str,
    path: &str,
    body: Value,
) -> String {
    told(&server.api(key, method, path, body).await)
}

/// The fields that a refusal names.
pub(crate) fn fields(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

/// What is wrong with the first field that a refusal names.
fn message(answer: &Answer) -> String {
    answer.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned()
}

/// The text of a member of an object.
pub(crate) fn text(thing: &Value, member: &str) -> String {
    thing[member].as_str().unwrap_or_else(|| panic!("no `{member}`: {thing}")).to_owned()
}

/// One member of each item of a list.
pub(crate) fn each(list: &Value, member: &str) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| text(item, member)).collect()
}

/// Somebody with all scopes of the organization who is no admin of the account.
async fn org_admin(server: &Server) -> Key {
    key(server, json!({"name": "org admin", "org_role": "admin", "scopes": ["*:*"]})).await
}

/// A service key with a role in the organization and no scopes of its own.
async fn with_role(server: &Server, role: &str) -> Key {
    key(server, json!({"name": role, "org_role": role})).await
}

/// A service key with a role in a space and none in the organization.
async fn with_space_role(server: &Server, space: &str, role: &str) -> Key {
    let ask = json!({"name": role, "space": space, "space_role": role, "org_role": "none"});
    key(server, ask).await
}

/// Another organization, bootstrapped, and its admin.
async fn other_org(server: &Server, slug: &str) -> (Value, Key) {
    good(server, "POST", "/v1/organizations", json!({"slug": slug})).await;
    let bootstrap = format!("/v1/organizations/{slug}/bootstrap");
    let org = good(server, "POST", &bootstrap, json!({})).await;
    let path = format!("/v1/keys?organization={slug}");
    let ask = json!({"name": "admin", "org_role": "admin", "scopes": ["*:*"]});
    (org, key_of(&good(server, "POST", &path, ask).await))
}

/// A service key that has ninety scopes by its bot, which are more than one token holds.
pub(crate) async fn of_many_scopes(server: &Server) -> Key {
    let scopes = |start: &str, count: u32| -> Vec<String> {
        (0..count).map(|number| format!("read:projects/{start}{number}")).collect()
    };
    let role = json!({"name": "many", "level": "organization", "scopes": scopes("b", 30)});
    good(server, "POST", "/v1/roles", role).await;
    let ask = json!({"name": "many", "grants": scopes("a", 60), "org_role": "many"});
    let bot = text(&good(server, "POST", "/v1/bots", ask).await, "id");
    key(server, json!({"bot": bot})).await
}

/// A member with a role in the organization, and the id.
pub(crate) async fn member(server: &Server, email: &str, role: &str) -> String {
    let ask = json!({"email": email, "role": role});
    text(&good(server, "POST", "/v1/users", ask).await, "id")
}

/// A key of a person, put into the database: a person has no other first key before it can log in.
pub async fn user_key(server: &Server, user: &str, scopes: Option<&str>) -> Key {
    user_key_in(server, server.org.id, user, scopes).await
}

pub async fn user_key_in(server: &Server, org: OrgId, user: &str, scopes: Option<&str>) -> Key {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let random = NEXT.fetch_add(1, Ordering::Relaxed);
    let store = Store::open(&server.database).await.unwrap();
    let found = installation::find(&mut store.read().await.unwrap()).await.unwrap().unwrap();
    let master_key = MasterKey::load(&server.directory.path().join("keys")).unwrap();
    let pepper = master_key.open(Sealed::Pepper, &found.sealed_pepper).unwrap();
    let pepper = Pepper::new(pepper.as_slice().try_into().unwrap());
    let id = ApiKeyId::from_random([random; 16]);
    let text = api_key_text("tm", "default", &id, &[random; 32]).reveal();
    let secret = ApiKeySecret { digest: pepper.digest(text.as_bytes()), expires_at: None };
    let now = server.clock.now();
    let mut write = store.begin().await.unwrap();
    stored_keys::insert(&mut write, &of_person(server, (org, id), user, scopes)).await.unwrap();
    stored_keys::insert_secret(&mut write, &id, &secret, now).await.unwrap();
    write.touched(Subject::ApiKey(id), now).await.unwrap();
    write.commit().await.unwrap();
    store.close().await;
    server.follower.catch_up().await.unwrap();
    Key { id, text }
}

fn of_person(
    server: &Server,
    (org, id): (OrgId, ApiKeyId),
    user: &str,
    scopes: Option<&str>,
) -> ApiKey {
    let owner: OwnerId = user.parse().unwrap();
    ApiKey {
        id,
        org,
        key_type: ApiKeyType::User,
        owner,
        space: None,
        name: "personal".to_owned(),
        description: String::new(),
        prefix: None,
        scopes: scopes.map(|scopes| scopes.parse().unwrap()),
        audiences: Vec::new(),
        ip_rules: IpRules::default(),
        quota: None,
        replaces: None,
        created_by: Some(owner),
        created_at: server.clock.now(),
        expires_at: None,
        revoked_at: None,
        rotated_at: None,
        old_secret_expires_at: None,
        deleted_at: None,
        lifetime: None,
        quota_counter: id,
    }
}

/// The entries of the audit that the administrator sees, from new to old.
pub(crate) async fn audited(server: &Server, query: &str) -> Vec<Value> {
    let list = good(server, "GET", &format!("/v1/audit?limit=200&{query}"), Value::Null).await;
    list["items"].as_array().unwrap().clone()
}

/// The revision of the database: each change raises it, and a dry run does not.
async fn revision(server: &Server) -> i64 {
    server.follower.catch_up().await.unwrap();
    server.mint.index().revision().unwrap()
}
