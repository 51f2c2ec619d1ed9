//! Reading all that the index holds, by two readers at once.
//!
//! Each table is read by itself and in the order in which it lies, and what belongs together is brought
//! together in memory: a database would look it up a row at a time, all over its file. A page is put
//! while the database makes the next one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::join;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::mint::{Change, FilledIndex, Mint};
use crate::model::api_key::{ApiKeySecret, IndexedApiKey};
use crate::model::id::{ApiKeyId, BotId};
use crate::model::journal::{Ended, end_of};
use crate::model::owner::{BoundRole, OwnerId, StoredOwner};
use crate::model::time::Timestamp;
use crate::service::owners::RoleBook;
use crate::store::{
    Half, Made, Read, Store, audiences, gateway_policies, indexed_api_keys, orgs, owners, spaces,
};

/// How long a reader waits without asking: PostgreSQL ends a snapshot in which nothing is asked for five
/// seconds.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// An index that is being filled, for both readers.
type Filling = Arc<Mutex<Found>>;

/// What was found so far.
struct Found {
    filled: FilledIndex,
    before: Before,
    /// What has ended of it.
    ended: Vec<Ended>,
    /// When API keys are over, and so are their secrets, which come later.
    over: HashMap<ApiKeyId, Timestamp>,
}

/// What a node knew before it reads everything anew.
pub(super) struct Before {
    pub(super) mint: Arc<Mint>,
    /// The API keys that changed of late.
    pub(super) changed: HashSet<ApiKeyId>,
}

impl Before {
    /// Whether the expiry of an API key came earlier, or may have.
    fn outlives(&self, api_key: &IndexedApiKey) -> bool {
        self.changed.contains(&api_key.id) || self.mint.index().outlives(api_key)
    }
}

/// Fills an index that is empty. The second reader looks a moment later: what it sees too early is
/// applied again, in its turn, by the look that follows. An owner whose key comes before it counts as gone
/// until it comes.
pub(super) async fn fill(
    read: &mut Read,
    store: &Store,
    (mut filled, before): (FilledIndex, Before),
) -> Result<(FilledIndex, Vec<Ended>)> {
    fill_the_few(read, &mut filled).await?;
    let book = RoleBook::read_all(read).await?;
    for person in owners::list_users(read).await? {
        filled.put(Change::Owner(book.resolve(person)));
    }
    let found = Found { filled, before, ended: Vec::new(), over: HashMap::new() };
    let filling = Filling::new(Mutex::new(found));
    let (keys_are_there, mut keys_there) = oneshot::channel();
    let mut beside = JoinSet::new();
    beside.spawn({
        let (mut other, filling) = (store.read().await?, filling.clone());
        async move {
            fill_api_keys(&mut other, &filling).await?;
            let _ = keys_are_there.send(());
            fill_secrets(&mut other, Half::Upper, &filling).await
        }
    });
    fill_bots(read, &book, &filling).await?;
    let keys_there = loop {
        match timeout(ASK_EVERY, &mut keys_there).await {
            Ok(there) => break there.is_ok(),
            Err(_) => read.keep().await?,
        }
    };
    // where they cannot be read, the reason is what the other reader says
    if keys_there {
        fill_secrets(read, Half::Lower, &filling).await?;
    }
    beside.join_next().await.unwrap_or(Ok(Ok(()))).map_err(panicked)??;
    let found = Arc::into_inner(filling).map(Mutex::into_inner).ok_or_else(|| panicked(()))?;
    Ok((found.filled, found.ended))
}

fn panicked<C>(_: C) -> Error {
    Error::Broken("a reader of the index panicked".to_owned())
}

/// What there are few of, and what all else points to.
async fn fill_the_few(read: &mut Read, filled: &mut FilledIndex) -> Result<()> {
    for org in orgs::list(read).await? {
        filled.put(Change::Org(org));
    }
    for space in spaces::list_all(read).await? {
        filled.put(Change::Space(space));
    }
    for audience in audiences::list_all(read).await? {
        filled.put(Change::Audience(audience));
    }
    for policy in gateway_policies::list_all(read).await? {
        filled.put(Change::GatewayPolicy(policy));
    }
    Ok(())
}

async fn fill_bots(read: &mut Read, book: &RoleBook, filling: &Filling) -> Result<()> {
    let roles = RolesOfBots::read_all(read).await?;
    let put = async |page: Vec<StoredOwner>| {
        let mut found = filling.lock();
        for mut bot in page {
            if let OwnerId::Bot(id) = bot.owner {
                bot.roles = roles.of(&id);
            }
            found.filled.put(Change::Owner(book.resolve(bot)));
        }
    };
    let mut found = owners::list_bots_after(read, &Made::START).await?;
    while let (page, Some(last)) = found {
        let (next, ()) = join!(owners::list_bots_after(read, &last), put(page));
        found = next?;
    }
    Ok(())
}

async fn fill_api_keys(read: &mut Read, filling: &Filling) -> Result<()> {
    let put = async |page: Vec<IndexedApiKey>| {
        let mut found = filling.lock();
        for api_key in page {
            let over = end_of(&api_key, found.before.outlives(&api_key));
            found.ended.extend(Ended::of(&api_key, over));
            found.over.extend(over.map(|over| (api_key.id, over)));
            found.filled.put(Change::ApiKey(api_key));
        }
    };
    let mut found = indexed_api_keys::list_after(read, &Made::START).await?;
    while let (page, Some(last)) = found {
        let (next, ()) = join!(indexed_api_keys::list_after(read, &last), put(page));
        found = next?;
    }
    Ok(())
}

/// The secrets of staged keys are read too, and left out: their keys are not there.
async fn fill_secrets(read: &mut Read, half: Half, filling: &Filling) -> Result<()> {
    let put = async |page: Vec<(ApiKeyId, Vec<ApiKeySecret>)>| {
        let mut found = filling.lock();
        for (api_key, secrets) in page {
            let over = found.over.get(&api_key).copied();
            found.ended.extend(Ended::of_secrets(&secrets, over));
            found.filled.put_secrets(&api_key, &secrets);
        }
    };
    let mut page = indexed_api_keys::list_secrets_after(read, half, None).await?;
    while let Some(last) = page.last().map(|(api_key, _)| *api_key) {
        let next = indexed_api_keys::list_secrets_after(read, half, Some(&last));
        let (next, ()) = join!(next, put(page));
        page = next?;
    }
    Ok(())
}

/// Which roles each bot has. Most have the same few.
#[derive(Default)]
struct RolesOfBots {
    sets: Vec<Vec<BoundRole>>,
    places: HashMap<Vec<BoundRole>, usize>,
    of: HashMap<BotId, u32>,
}

impl RolesOfBots {
    async fn read_all(read: &mut Read) -> Result<Self> {
        let mut all = Self::default();
        for half in [Half::Lower, Half::Upper] {
            let mut after = None;
            loop {
                let page = owners::list_roles_of_bots_after(read, half, after.as_ref()).await?;
                let Some((last, _)) = page.last() else { break };
                after = Some(*last);
                for (bot, roles) in page {
                    all.put(bot, roles);
                }
            }
        }
        Ok(all)
    }

    fn put(&mut self, bot: BotId, roles: Vec<BoundRole>) {
        let place = *self.places.entry(roles).or_insert_with_key(|roles| {
            self.sets.push(roles.clone());
            self.sets.len() - 1
        });
        self.of.insert(bot, u32::try_from(place).unwrap_or(u32::MAX));
    }

    fn of(&self, bot: &BotId) -> Vec<BoundRole> {
        let place = self.of.get(bot).map(|place| *place as usize);
        place.and_then(|place| self.sets.get(place)).cloned().unwrap_or_default()
    }
}
