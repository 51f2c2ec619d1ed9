//! A database of many API keys. Each has an owner of its own, with a role, and three scopes that no other
//! key has, which is the most that the index can be asked for.

use std::path::Path;

use tenmint::model::api_key::{ApiKey, ApiKeySecret, ApiKeyType};
use tenmint::model::bot::Bot;
use tenmint::model::id::{ApiKeyId, BotId, OrgId};
use tenmint::model::ip_rules::IpRules;
use tenmint::model::owner::OwnerId;
use tenmint::model::role::{RoleBinding, RolePlace, RoleRef};
use tenmint::model::secret::SecretDigest;
use tenmint::model::time::Timestamp;
use tenmint::store::{DatabaseUrl, Store, Write, api_keys, bots, orgs, roles};

/// What one write may hold.
const KEYS_A_WRITE: u32 = 100;

/// Adds so many keys to the installation in a directory.
pub(crate) async fn fill(directory: &Path, keys: u32) {
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
        put(&mut write, (org, number), now).await;
    }
    write.commit().await.unwrap();
    store.close().await;
}

/// Adds a bot with a role, and its key.
async fn put(write: &mut Write<'_>, (org, number): (OrgId, u32), now: Timestamp) {
    let owner = bot(org, number, now);
    let api_key = api_key(&owner, number, now);
    let read_only = RoleBinding {
        owner: api_key.owner,
        place: RolePlace::Organization { organization: org },
        role: RoleRef::ReadOnly,
    };
    let halves = [random(number, 3), random(number, 4)].concat();
    let digest = SecretDigest::from_bytes(halves.try_into().unwrap());
    bots::insert(write, &owner).await.unwrap();
    roles::bind(write, &read_only).await.unwrap();
    api_keys::insert(write, &api_key).await.unwrap();
    let secret = ApiKeySecret { digest, expires_at: None };
    api_keys::insert_secret(write, &api_key.id, &secret, now).await.unwrap();
}

fn bot(org: OrgId, number: u32, now: Timestamp) -> Bot {
    let scopes = format!(
        "read:projects/p{number}/* write:projects/p{number}/* admin:projects/p{number}/members"
    );
    Bot {
        id: BotId::from_random(random(number, 1)),
        org,
        space: None,
        name: format!("bot {number}"),
        grants: Some(scopes.parse().unwrap()),
        created_at: now,
        suspended_at: None,
        deleted_at: None,
    }
}

/// A key that holds what its owner does.
fn api_key(owner: &Bot, number: u32, now: Timestamp) -> ApiKey {
    let id = ApiKeyId::from_random(random(number, 2));
    ApiKey {
        id,
        org: owner.org,
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
    }
}

/// Bytes that look random and are the same in every run.
fn random(number: u32, salt: u8) -> [u8; 16] {
    let text = [number.to_be_bytes().as_slice(), &[salt]].concat();
    let hash = ring::digest::digest(&ring::digest::SHA256, &text);
    hash.as_ref()[..16].try_into().unwrap()
}
