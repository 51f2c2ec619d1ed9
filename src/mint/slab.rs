//! Entries in one vector behind a table of places: a place is four bytes where a pointer is eight and
//! an id sixteen, an id is kept in its entry alone, and an entry is changed where it lies.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(u32);

/// An entry that says what it is found by.
pub(super) trait Keyed {
    /// What it is found by.
    type Key: Eq + Hash;

    /// Its own.
    fn key(&self) -> Self::Key;

    /// The hash of one, seeded: callers choose what is looked up, and must not know what collides.
    fn hash(key: &Self::Key, seed: &RandomState) -> u64 {
        seed.hash_one(key)
    }
}

/// Entries by key and by place.
#[derive(Debug)]
pub(super) struct Slab<V> {
    places: HashTable<Place>,
    entries: Vec<V>,
    free: Vec<Place>,
    hasher: RandomState,
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self {
            places: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<V: Keyed> Slab<V> {
    /// Makes room for so many more, so that a large load does not grow in steps.
    pub(super) fn reserve(&mut self, more: usize) {
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places.reserve(more, |place| hash_at(entries, *place, hasher));
        self.entries.reserve_exact(more);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts an entry, in the place of the one with its key if there is one.
    pub(super) fn put(&mut self, entry: V) -> Option<Place> {
        let (key, entries, hasher) = (entry.key(), &self.entries, &self.hasher);
        let has_key = |place: &Place| has_key(entries, *place, &key);
        let rehash = |place: &Place| hash_at(entries, *place, hasher);
        let place = match self.places.entry(V::hash(&key, hasher), has_key, rehash) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                let next = || u32::try_from(entries.len()).ok().map(Place);
                *vacant.insert(self.free.pop().or_else(next)?).get()
            }
        };
        match self.entries.get_mut(place.0 as usize) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        Some(place)
    }

    pub(super) fn find(&self, key: &V::Key) -> Option<Place> {
        let has_key = |place: &Place| has_key(&self.entries, *place, key);
        self.places.find(V::hash(key, &self.hasher), has_key).copied()
    }

    pub(super) fn at(&self, place: Place) -> Option<&V> {
        entry_at(&self.entries, place)
    }

    /// The entry of a key.
    pub(super) fn get(&self, key: &V::Key) -> Option<&V> {
        self.at(self.find(key)?)
    }

    /// Forgets an entry. Its place is used again, so nothing may still point to it.
    pub(super) fn remove(&mut self, key: &V::Key) {
        let has_key = |place: &Place| has_key(&self.entries, *place, key);
        if let Ok(found) = self.places.find_entry(V::hash(key, &self.hasher), has_key) {
            self.free.push(found.remove().0);
        }
    }

    /// All entries as they lie. One that was forgotten is among them until its place is used again.
    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.entries.iter()
    }

    /// The keys of the entries that a condition holds for.
    pub(super) fn keys_where(&self, holds: impl Fn(&V) -> bool) -> Vec<V::Key> {
        let held = self.entries.iter().enumerate().filter(|(_, entry)| holds(entry));
        let held = held.map(|(at, entry)| (at, entry.key()));
        let is_there =
            |at: usize, key: &V::Key| self.find(key).is_some_and(|place| place.0 as usize == at);
        held.filter(|(at, key)| is_there(*at, key)).map(|(_, key)| key).collect()
    }
}

fn entry_at<V>(entries: &[V], place: Place) -> Option<&V> {
    entries.get(place.0 as usize)
}

fn has_key<V: Keyed>(entries: &[V], place: Place, key: &V::Key) -> bool {
    entry_at(entries, place).is_some_and(|entry| entry.key() == *key)
}

fn hash_at<V: Keyed>(entries: &[V], place: Place, hasher: &RandomState) -> u64 {
    entry_at(entries, place).map_or(0, |entry| V::hash(&entry.key(), hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keyed for (&'static str, u32) {
        type Key = &'static str;

        fn key(&self) -> &'static str {
            self.0
        }
    }

    #[test]
    fn an_entry_keeps_its_place_and_a_free_place_is_used_again() {
        let mut slab = Slab::default();
        let a = slab.put(("a", 1)).unwrap();
        assert_eq!(slab.put(("a", 2)), Some(a));
        assert_eq!((slab.at(a), slab.get(&"a"), slab.len()), (Some(&("a", 2)), slab.at(a), 1));
        slab.remove(&"a");
        assert_eq!((slab.find(&"a"), slab.len()), (None, 0));
        assert!(slab.keys_where(|_| true).is_empty(), "what was forgotten is there no more");
        assert_eq!(slab.put(("b", 3)), Some(a));
        assert_eq!(slab.keys_where(|entry| entry.1 == 3), ["b"]);
    }

    #[test]
    fn entries_are_found_after_the_table_has_grown() {
        let mut slab = Slab::default();
        for number in 0..1_000_u32 {
            slab.put(Number(number)).unwrap();
        }
        slab.reserve(10_000);
        assert!((0..1_000).all(|number| slab.get(&number) == Some(&Number(number))));
        (0..1_000).filter(|number| number % 2 == 0).for_each(|number| slab.remove(&number));
        let found = (0..1_000).filter(|number| slab.find(number).is_some());
        assert!(found.eq((0..1_000).filter(|number| number % 2 == 1)));
    }

    #[derive(Debug, PartialEq)]
    struct Number(u32);

    impl Keyed for Number {
        type Key = u32;

        fn key(&self) -> u32 {
            self.0
        }
    }
}
