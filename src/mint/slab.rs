//! Entries in one vector behind a map of ids: a place is four bytes where a pointer is eight and an
//! id sixteen, and an entry is changed where it lies.

use std::collections::HashMap;
use std::hash::Hash;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place(u32);

/// Entries by id and by place.
#[derive(Debug)]
pub(super) struct Slab<K, V> {
    places: HashMap<K, Place>,
    entries: Vec<V>,
    free: Vec<Place>,
}

impl<K, V> Default for Slab<K, V> {
    fn default() -> Self {
        Self { places: HashMap::new(), entries: Vec::new(), free: Vec::new() }
    }
}

impl<K: Eq + Hash + Clone, V> Slab<K, V> {
    /// Makes room for so many more, so that a large load does not grow in steps.
    pub(super) fn reserve(&mut self, more: usize) {
        self.places.reserve(more);
        self.entries.reserve_exact(more);
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Puts an entry, in the place of the one before it if there was one.
    pub(super) fn put(&mut self, id: &K, entry: V) -> Option<Place> {
        let place = match self.find(id).or_else(|| self.free.pop()) {
            Some(place) => place,
            None => Place(u32::try_from(self.entries.len()).ok()?),
        };
        self.places.insert(id.clone(), place);
        match self.entries.get_mut(place.0 as usize) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
        Some(place)
    }

    pub(super) fn find(&self, id: &K) -> Option<Place> {
        self.places.get(id).copied()
    }

    pub(super) fn at(&self, place: Place) -> Option<&V> {
        self.entries.get(place.0 as usize)
    }

    /// Forgets an entry. Its place is used again, so nothing may still point to it.
    pub(super) fn remove(&mut self, id: &K) {
        self.free.extend(self.places.remove(id));
    }

    /// The ids of the entries that a condition holds for.
    pub(super) fn ids_where(&self, holds: impl Fn(&V) -> bool) -> Vec<K> {
        let here = self.places.iter().filter(|(_, place)| self.at(**place).is_some_and(&holds));
        here.map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_its_place_and_a_free_place_is_used_again() {
        let mut slab = Slab::default();
        let a = slab.put(&"a", 1).unwrap();
        assert_eq!(slab.put(&"a", 2), Some(a));
        assert_eq!((slab.at(a), slab.len()), (Some(&2), 1));
        slab.remove(&"a");
        assert_eq!(slab.find(&"a"), None);
        assert_eq!(slab.put(&"b", 3), Some(a));
        assert_eq!(slab.ids_where(|entry| *entry == 3), ["b"]);
    }
}
