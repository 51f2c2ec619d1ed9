//! What each thing that may leak alone is worth. `docs/security.md` tells it, and names these tests.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tenmint::error::Error;
use tenmint::mint::failures::Failures;
use tenmint::service::Service;
use tenmint::service::master_key::{MasterKey, Sealed};
use tenmint::store::Store;
use tracing_subscriber::util::SubscriberInitExt;

use crate::answer::ask;
use crate::api::api_keys::everything_stored;
use crate::api::key;
use crate::cli::{Home, Serving, free_address};
use crate::oauth::post_form;
use crate::server::{Engine, Key, Server, Setup, basic, on_both_engines, token_request};
use crate::traced::{Lines, passes_alone};

/// Characters of a secret, or of a spelling of it, that must be found nowhere.
const WINDOW: usize = 12;

/// The first column of a table.
pub async fn column(server: &Server, select: &'static str) -> Vec<String> {
    let store = Store::open(&server.database).await.unwrap();
    let mut read = store.read().await.unwrap();
    sqlx::query_scalar(select).fetch_all(&mut *read).await.unwrap()
}

/// Why a service does not start on a database with the keys of another directory.
async fn refusal(server: &Server, keys_dir: &Path) -> String {
    match Service::open(&server.database, keys_dir, server.clock.clone()).await {
        Err(Error::Setup(said)) => said,
        other => panic!("{:?}", other.map(drop)),
    }
}

/// What is answered to a text in the place of an API key, at each face that takes one.
async fn statuses(server: &Server, text: &str) -> [u16; 4] {
    let key = Key { text: text.to_owned(), ..server.administrator.clone() };
    [
        server.post("", &[("Authorization", &format!("Bearer {text}"))]).await.status,
        server.token(&key, "").await.status,
        post_form(server, "/oauth/introspect", &key, "token=x").await.status,
        server.api(&key, "GET", "/v1/whoami", Value::Null).await.status,
    ]
}

on_both_engines! {
    async fn a_database_without_its_master_key_authenticates_nobody(server: Server) {
        let digests = column(&server, "SELECT digest FROM api_key_secrets").await;
        let mut texts = column(&server, "SELECT sealed_pepper FROM installation").await;
        assert!(!digests.is_empty() && !texts.is_empty());
        texts.extend(digests);
        for text in &texts {
            assert_eq!(statuses(&server, text).await, [401; 4], "{text}");
        }
        let other = server.directory.path().join("other");
        MasterKey::load_or_create(&other).unwrap();
        let said = refusal(&server, &other).await;
        assert!(said.contains("is not the one of this database"), "{said}");
    }

    async fn a_database_without_its_master_key_signs_nothing(server: Server) {
        let other = server.directory.path().join("other");
        let (other, own) = (MasterKey::load_or_create(&other).unwrap(), MasterKey::load(&server.directory.path().join("keys")).unwrap());
        let kids = column(&server, "SELECT kid FROM signing_keys ORDER BY kid").await;
        let sealed = column(&server, "SELECT sealed_private FROM signing_keys ORDER BY kid").await;
        let stored = everything_stored(&server).await;
        assert_eq!((kids.len(), sealed.len()), (2, 2));
        for (at, (kid, text)) in kids.iter().zip(&sealed).enumerate() {
            let kid = kid.parse().unwrap();
            assert!(other.open(Sealed::SigningKey(&kid), text).is_err(), "another master key");
            assert!(own.open(Sealed::SigningKey(&kid), &sealed[1 - at]).is_err(), "the text of another kid");
            assert!(own.open(Sealed::Pepper, text).is_err(), "as something else");
            let private = own.open(Sealed::SigningKey(&kid), text).unwrap();
            // the number itself: beside it stand its kind and the public half, which everybody may know
            let number = private.windows(5).position(|five| five == [2, 1, 1, 4, 32]).unwrap() + 5;
            assert!(!pieces_of(&private[number..number + 32]).iter().any(|piece| stored.contains(piece)), "in the clear");
        }
    }

    async fn a_master_key_without_its_database_is_no_credential_and_opens_no_other(server: Server) {
        let keys_dir = server.directory.path().join("keys");
        let file = std::fs::read_to_string(MasterKey::path_in(&keys_dir)).unwrap();
        assert_eq!(statuses(&server, file.trim()).await, [401; 4]);
        let stranger = Setup::on(Engine::Sqlite).start().await.unwrap();
        let said = refusal(&stranger, &keys_dir).await;
        assert!(said.contains("is not the one of this database"), "{said}");
    }

    async fn the_feed_names_nobody(server: Server) {
        let revoked = server.api_key("chat").await;
        let shown = server.shown(&revoked.id).await;
        server.revoke(&revoked.id).await;
        let feed = server.get("/oauth/revocations").await;
        let claims = feed.body.split('.').nth(1).unwrap();
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert!(!claims.contains(r#""void":[]"#), "{claims}");
        for id in [revoked.id.to_string(), shown.owner.to_string(), server.org.id.to_string()] {
            let bare = id.split_once('_').unwrap().1;
            assert!(!claims.contains(bare), "{id}: {claims}");
        }
    }
}

/// A secret in every spelling that a log or a file could have it in, in pieces.
pub fn pieces(text: &str) -> Vec<String> {
    // an id and a checksum are no secret
    pieces_of(&text.as_bytes()[text.len() - 49..text.len() - 6])
}

fn pieces_of(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let escaped: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
    let mut spellings = vec![hex.to_uppercase(), hex, escaped.to_lowercase(), escaped];
    spellings.extend(String::from_utf8(secret.to_vec()).ok());
    // wherever it begins within three bytes; the ends depend on what stands beside it
    for skipped in 0..3 {
        let whole = &secret[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        spellings.extend([STANDARD.encode(whole), URL_SAFE.encode(whole)]);
    }
    let mut pieces: Vec<String> = spellings.iter().flat_map(|text| windows(text)).collect();
    pieces.sort_unstable();
    pieces.dedup();
    pieces
}

fn windows(text: &str) -> Vec<String> {
    let windows = text.as_bytes().windows(WINDOW);
    windows.map(|window| String::from_utf8_lossy(window).into_owned()).collect()
}

#[test]
fn a_piece_of_a_secret_is_found_in_every_spelling() {
    let text = "tm_default_0123456789abcdefABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq012345";
    let found = |haystack: &str| pieces(text).iter().any(|piece| haystack.contains(piece.as_str()));
    assert!(!found("tm_default_0123456789abcdef and 012345"));
    for haystack in [
        text.to_owned(),
        "MNOPQRSTUVWX".to_owned(),
        basic("", text),
        basic("x", text),
        basic("xy", text),
        text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        format!("{:?}", URL_SAFE_NO_PAD.encode(text)),
    ] {
        assert!(found(&haystack), "{haystack}");
    }
}

/// Sends an API key everywhere where somebody could put one by mistake.
pub async fn misplace(server: &Server, text: &str) {
    misplace_in_a_form(server, text).await;
    misplace_in_a_head(server, text).await;
    let administrator = &server.administrator;
    for path in ["/oauth/introspect", "/oauth/revoke"] {
        let form = format!("token={text}&audience={text}");
        post_form(server, path, administrator, &form).await;
    }
    let again = [("Idempotency-Key", text)];
    for body in [json!(text), json!({text: text}), json!({"scopes": [text], "expires_at": text})] {
        server.api(administrator, "POST", "/v1/keys", body.clone()).await;
        server.api_with(text, "POST", "/v1/keys/import", body, &again).await;
    }
}

async fn misplace_in_a_form(server: &Server, text: &str) {
    let id = server.administrator.id.to_string();
    let (by_id, by_name, malformed) = (basic(&id, text), basic(text, ""), format!("Basic {text}"));
    let bearer = format!("Bearer {text}");
    for authorization in [&by_id, &by_name, &malformed, &bearer, text] {
        server.post("scope=%zz", &[("Authorization", authorization)]).await;
        server.post("", &[("Authorization", authorization), ("User-Agent", text)]).await;
    }
    let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for name in ["client_id", "client_secret", "scope", "resource", "audience", "grant_type", text]
    {
        for value in [text, &escaped] {
            let form = format!("grant_type=client_credentials&{name}={value}");
            server.post_exactly(&format!("{form}&client_id={id}"), &[]).await;
            server.post_exactly(&form, &[("Authorization", &bearer)]).await;
        }
    }
}

async fn misplace_in_a_head(server: &Server, text: &str) {
    let bearer = format!("Bearer {text}");
    for name in [
        "Cookie",
        "X-Forwarded-For",
        "Referer",
        "X-Request-Id",
        "Tenmint-Gateway-Key",
        "If-None-Match",
    ] {
        for path in ["/oauth/revocations", "/forward-auth?policy=x", "/v1/keys", "/nowhere"] {
            server.send("GET", path, &[(name, text), ("Authorization", &bearer)], b"").await;
        }
    }
    let in_query = format!("/oauth/token?client_secret={text}");
    for target in [in_query, format!("/{text}"), format!("/v1/keys/{text}")] {
        // any word can be a method
        for method in ["GET", "POST", "DELETE", text] {
            server.send(method, &target, &[("Authorization", &bearer)], b"").await;
        }
        server.exchange(format!("GET {target} HTTP/9.9\r\n\r\n").as_bytes()).await;
        server.exchange(format!("GET {target} HTTP/1.1\r\n{text}\r\n\r\n").as_bytes()).await;
    }
}

#[test]
fn no_spelling_of_a_secret_is_in_a_log_of_any_level_or_in_what_is_kept() {
    passes_alone("leaks::no_secret_is_logged_or_kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a process of its own: `no_spelling_of_a_secret_is_in_a_log_of_any_level_or_in_what_is_kept` runs it"]
async fn no_secret_is_logged_or_kept() {
    let lines = Lines::default();
    lines.subscriber().init();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let mut setup = Setup::on(engine);
        setup.failures = Arc::new(Failures::per_minute(0));
        let Some(mut server) = setup.start().await else { continue };
        let writer = server.service.start_usage(server.mint.clone()).unwrap();
        let living = key(&server, json!({"scopes": ["chat"]})).await;
        let dead = key(&server, json!({"scopes": ["chat"]})).await;
        server.revoke(&dead.id).await;
        // well-formed, and of nobody
        let nobody = living.text.replace(&living.text[20..30], "0000000000");
        let texts = [living.text.clone(), dead.text, nobody];
        // what makes a token one; the rest of it is told where it is asked about
        let token = server.token(&living, "").await.token();
        let signature = token.rsplit('.').next().unwrap().to_owned();
        for text in texts.iter().chain([&token]) {
            misplace(&server, text).await;
        }
        writer.write_all().await.unwrap();
        server.stop().await;
        let kept = everything_stored(&server).await;
        let log = lines.take();
        // what is said of requests that were refused, and at a lower level of those that were not
        assert!(log.contains("refused") && log.contains("answered"), "the log was seen: {log}");
        assert!(kept.contains(living.id.to_string().as_str()), "what is kept was seen");
        for (what, text) in [("the log", &log), ("what is kept", &kept)] {
            let of_texts = texts.iter().flat_map(|text| pieces(text));
            let mut pieces = of_texts.chain(pieces_of(signature.as_bytes()));
            let found = pieces.find(|piece| text.contains(piece));
            let place = found.and_then(|piece| text.find(&piece));
            let around = place.map(|at| text.get(at.saturating_sub(300)..at + 40));
            assert_eq!(around, None, "a part of a secret is in {what} on {engine:?}");
        }
    }
}

/// What comes by Basic is written plainly nowhere but in what the node decodes: what is read from the network holds
/// another spelling of it.
#[test]
fn the_text_of_a_key_is_wiped_from_the_memory_of_a_node_once_it_was_looked_up() {
    let home = Home::new();
    let init = home.init("https://auth.example.com");
    let [id, text] = ["id", "api_key"].map(|field| init["api_key"][field].as_str().unwrap());
    let address = free_address();
    let node = Serving::start(&home, &["--listen", &address]);
    // the right one, and others that nobody has
    let mut texts = vec![text.to_owned()];
    texts.extend((10..40).map(|number| text.replace(&text[20..22], &number.to_string())));
    for text in &texts {
        let answer = ask(&address, &token_request(&basic(id, text))).unwrap();
        assert!(matches!(answer.status, 200 | 401), "{answer:?}");
    }
    let memory = memory_of(node.child.id());
    assert!(contains(&memory, &[id.as_bytes()]), "the memory was seen");
    let secret = &text.as_bytes()[text.len() - 49..text.len() - 6];
    let pieces: Vec<&[u8]> = secret.chunks_exact(WINDOW).collect();
    assert!(!contains(&memory, &pieces), "a part of a secret is still there");
    node.stop();
}

/// What a process holds in memory that it can write to.
fn memory_of(process: u32) -> Vec<u8> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|place| u64::from_str_radix(place, 16).unwrap());
        if rights.starts_with("rw") {
            for place in (from..to).step_by(4096) {
                let mut page = [0; 4096];
                // what is only set aside cannot be read
                let read = memory.read_at(&mut page, place).unwrap_or(0);
                all.extend_from_slice(&page[..read]);
            }
        }
    }
    all
}

fn contains(memory: &[u8], pieces: &[&[u8]]) -> bool {
    pieces.iter().any(|piece| {
        let starts = memory.iter().enumerate().filter(|(_, byte)| **byte == piece[0]);
        starts.map(|(place, _)| &memory[place..]).any(|rest| rest.starts_with(piece))
    })
}
