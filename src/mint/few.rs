//! One thing or several: a token is for one audience, nearly always.

use std::ops::Deref;

/// Things in their order; a lone one is kept where it is, without an allocation.
#[derive(Debug)]
pub(super) enum Few<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: PartialEq> Few<T> {
    /// The same with one more, unless it is there.
    pub(super) fn with(self, item: T) -> Self {
        match self {
            few if few.contains(&item) => few,
            Self::One(first) => Self::Many(vec![first, item]),
            Self::Many(many) if many.is_empty() => Self::One(item),
            Self::Many(mut many) => {
                many.push(item);
                Self::Many(many)
            }
        }
    }
}

impl<T> Few<T> {
    /// What is made of each.
    pub(super) fn map<'s, U>(&'s self, mut make: impl FnMut(&'s T) -> U) -> Few<U> {
        match self {
            Self::One(one) => Few::One(make(one)),
            Self::Many(many) => Few::Many(many.iter().map(make).collect()),
        }
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_in_its_order() {
        let mut few = Few::default();
        for (item, held) in
            [(2, &[2][..]), (2, &[2]), (1, &[2, 1]), (3, &[2, 1, 3]), (1, &[2, 1, 3])]
        {
            few = few.with(item);
            assert_eq!(&*few, held);
            assert_eq!(
                &*few.map(|number| number * 2),
                held.iter().map(|n| n * 2).collect::<Vec<_>>()
            );
        }
    }
}
