//! How long a node takes to start with many API keys, and what they cost in memory.
//!
//! `cargo bench --bench start`; an argument sets the number of keys. Each key has an owner of its
//! own and three scopes that no other key has, which is the most that the index can be asked for.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails says where, and prints what it measured"
)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use support::{Pinned, free_address, median, wait_for_answer};
use tenmint::model::api_key::{ApiKey, ApiKeySecret, ApiKeyType};
use tenmint::model::bot::Bot;
use tenmint::model::id::{ApiKeyId, BotId};
use tenmint::model::ip_rules::IpRules;
use tenmint::model::owner::OwnerId;
use tenmint::model::role::{RoleBinding, RolePlace, RoleRef};
use tenmint::model::secret::SecretDigest;
use tenmint::model::time::Timestamp;
use tenmint::store::{DatabaseUrl, Store, api_keys, bots, orgs, roles};

const RUNS: usize = 5;
/// What one write may hold.
const KEYS_A_WRITE: u32 = 100;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let keys: u32 = number.unwrap_or(100_000);
    let (empty, full) = (measure(0), measure(keys));
    for (keys, Start { time, used, resident }) in [(0, &empty), (keys, &full)] {
        let memory = *resident as f64 / 1e6;
        println!(
            "{keys:>8} keys  ready in {time:.3} s ({used:.2} s of processor time), {memory:.1} MB"
        );
    }
    let a_key = (full.resident - empty.resident) as f64 / f64::from(keys);
    println!("memory a key   {a_key:.0} bytes");
}

/// What a start takes.
struct Start {
    /// Seconds until the first answer.
    time: f64,
    /// Seconds of processor time.
    used: f64,
    /// Bytes in memory.
    resident: u64,
}

/// Starts a node with so many keys, several times.
fn measure(keys: u32) -> Start {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut init = Command::new(env!("CARGO_BIN_EXE_tenmint"));
    init.args(["init", "--issuer", "http://127.0.0.1"]).current_dir(directory.path());
    assert!(init.stdout(Stdio::null()).status().unwrap().success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill(directory.path(), keys));

    let (mut times, mut used, mut resident) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_tenmint"));
        serve.args(["serve", "--listen", &address]).current_dir(directory.path());
        let began = Instant::now();
        let running = Pinned::spawn("0,1", &serve);
        wait_for_answer(&address);
        times.push(began.elapsed().as_secs_f64());
        used.push(running.processor_time().as_secs_f64());
        resident = running.resident();
    }
    Start { time: median(times), used: median(used), resident }
}

async fn fill(directory: &Path, keys: u32) {
    let database = DatabaseUrl::in_directory(&directory.join("data"));
    let store = Store::open(&database).await.unwrap();
    let org = orgs::list(&mut store.read().await.unwrap()).await.unwrap()[0].id;
    let now = Timestamp::from_millis(1_800_000_000_000);
    let mut write = store.begin().await.unwrap();
    for number in 1..=keys {
        if number % KEYS_A_WRITE == 0 {
            write.commit().await.unwrap();
            write = store.begin().await.unwrap();
        }
        let scopes = format!(
            "read:projects/p{number}/* write:projects/p{number}/* admin:projects/p{number}/members"
        );
        let owner = Bot {
            id: BotId::from_random(random(number, 1)),
            org,
            space: None,
            name: format!("bot {number}"),
            grants: Some(scopes.parse().unwrap()),
            created_at: now,
            suspended_at: None,
            deleted_at: None,
        };
        let id = ApiKeyId::from_random(random(number, 2));
        let api_key = ApiKey {
            id,
            org,
            key_type: ApiKeyType::Service,
            owner: OwnerId::Bot(owner.id),
            space: None,
            name: format!("key {number}"),
            description: String::new(),
            prefix: Some(format!("tm_default_{number:08}")),
            scopes: owner.grants.clone(),
            audiences: Vec::new(),
            ip_rules: IpRules::default(),
            quota: None,
            replaces: None,
            created_by: None,
            created_at: now,
            expires_at: None,
            revoked_at: None,
            rotated_at: None,
            old_secret_expires_at: None,
            deleted_at: None,
            lifetime: None,
            quota_counter: id,
        };
        let read_only = RoleBinding {
            owner: api_key.owner,
            place: RolePlace::Organization { organization: org },
            role: RoleRef::ReadOnly,
        };
        let halves = [random(number, 3), random(number, 4)].concat();
        let digest = SecretDigest::from_bytes(halves.try_into().unwrap());
        bots::insert(&mut write, &owner).await.unwrap();
        roles::bind(&mut write, &read_only).await.unwrap();
        api_keys::insert(&mut write, &api_key).await.unwrap();
        let secret = ApiKeySecret { digest, expires_at: None };
        api_keys::insert_secret(&mut write, &api_key.id, &secret, now).await.unwrap();
    }
    write.commit().await.unwrap();
    store.close().await;
}

/// Bytes that look random and are the same in every run.
fn random(number: u32, salt: u8) -> [u8; 16] {
    let text = [number.to_be_bytes().as_slice(), &[salt]].concat();
    let hash = ring::digest::digest(&ring::digest::SHA256, &text);
    hash.as_ref()[..16].try_into().unwrap()
}
