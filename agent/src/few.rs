//! Lists that mostly have one element, for tables of a million.

use std::mem;

/// At least one element, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Few<T> {
    /// One, stored in place.
    One(T),
    /// Several, elsewhere: a list in place would make the common case larger.
    Many(Box<Vec<T>>),
}

impl<T> Few<T> {
    /// From a list; `None` when it is empty.
    pub fn from_list(mut list: Vec<T>) -> Option<Self> {
        match list.len() {
            0 => None,
            1 => list.pop().map(Self::One),
            _ => Some(Self::Many(Box::new(list))),
        }
    }

    /// The elements.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(list) => list,
        }
    }

    /// The elements, to change them.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Self::One(only) => std::slice::from_mut(only),
            Self::Many(list) => list,
        }
    }

    /// Puts an element at a place; at the end, where the place is behind it.
    pub fn insert(&mut self, index: usize, element: T) {
        let mut list = match mem::replace(self, Self::Many(Box::default())) {
            Self::One(only) => Box::new(vec![only]),
            Self::Many(list) => list,
        };
        list.insert(index.min(list.len()), element);
        *self = Self::Many(list);
    }

    /// Keeps the elements for which `keep` says so. Gives whether any are left; a list without any is to be
    /// thrown away.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> bool {
        let Self::Many(list) = self else { return self.as_slice().iter().all(keep) };
        let kept: Vec<T> = mem::take(list.as_mut()).into_iter().filter(|element| keep(element)).collect();
        let left = Self::from_list(kept);
        let any = left.is_some();
        if let Some(left) = left {
            *self = left;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_stored_in_place_and_several_elsewhere() {
        assert_eq!(Few::<u32>::from_list(vec![]), None);
        let mut list = Few::from_list(vec![2]).unwrap();
        assert_eq!(list, Few::One(2));
        for (index, element) in [(0, 1), (9, 4), (2, 3)] {
            list.insert(index, element);
        }
        assert_eq!(list.as_slice(), [1, 2, 3, 4]);
        list.as_mut_slice()[0] = 7;
        assert!(list.retain(|element| element % 2 == 1));
        assert_eq!(list.as_slice(), [7, 3]);
        assert!(list.retain(|element| *element == 3));
        assert_eq!(list, Few::One(3));
        assert!(list.retain(|_| true) && !list.retain(|_| false));
        list.insert(1, 4);
        assert!(!list.retain(|_| false));
    }
}
