//! Texts that many entries have, each of them once.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Texts by what they say. Two that are equal are one allocation.
#[derive(Debug, Default)]
pub(super) struct Texts {
    texts: HashTable<Arc<str>>,
    hasher: RandomState,
}

impl Texts {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.texts.reserve(more, |text| self.hasher.hash_one(text));
    }

    /// The one text that says this.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        let hasher = &self.hasher;
        let (is_same, rehash) =
            (|one: &Arc<str>| **one == *text, |one: &Arc<str>| hasher.hash_one(one));
        match self.texts.entry(hasher.hash_one(text), is_same, rehash) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(vacant) => vacant.insert(text.into()).get().clone(),
        }
    }

    /// Those that nobody else has.
    pub(super) fn unused(&self) -> Vec<Arc<str>> {
        self.texts.iter().filter(|text| Arc::strong_count(text) == 1).cloned().collect()
    }

    /// Forgets one that nobody has any more.
    pub(super) fn forget(&mut self, text: &Arc<str>) {
        let is_this = |one: &Arc<str>| Arc::ptr_eq(one, text);
        if let Ok(found) = self.texts.find_entry(self.hasher.hash_one(&**text), is_this) {
            found.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_until_nobody_has_them() {
        let mut texts = Texts::default();
        let [a, again, b] = ["read:a", "read:a", "read:b"].map(|text| texts.share(text));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        assert!(texts.unused().is_empty());
        drop(b);
        texts.unused().iter().for_each(|text| texts.forget(text));
        assert_eq!(texts.texts.len(), 1);
        assert!(Arc::ptr_eq(&a, &texts.share("read:a")));
    }
}
