//! Masks of AS paths.

use std::str::FromStr;

use crate::rib::model::AsSegment;

/// A mask that a whole AS path fits or not: numbers, ranges `64512..65534`, `?` for one AS, `*` for any number
/// of them, with spaces between. The empty mask fits the empty path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AsPathMask(Vec<Item>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    /// From the first to the last AS.
    Range(u32, u32),
    /// `?`.
    One,
    /// `*`.
    Any,
}

/// Why a text is no mask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// A word that is no item of a mask.
    #[error("{0:?} is no part of a mask; write AS numbers, ranges such as \"64512..65534\", \"?\" and \"*\"")]
    Word(String),
    /// A range that holds nothing.
    #[error("the range {0:?} ends before it begins; swap its ends")]
    Range(String),
}

/// An element of a path: an AS of a sequence, or a set.
type Element<'a> = &'a [u32];

impl AsPathMask {
    /// Whether the mask fits the whole path. A set is one element, and fits where any of its members does.
    pub fn matches(&self, path: &[AsSegment]) -> bool {
        fits(&self.0, &elements(path))
    }
}

fn elements(path: &[AsSegment]) -> Vec<Element<'_>> {
    let mut elements = Vec::new();
    for segment in path {
        match segment {
            AsSegment::Sequence(list) | AsSegment::ConfedSequence(list) => {
                elements.extend(list.iter().map(std::slice::from_ref));
            }
            AsSegment::Set(list) | AsSegment::ConfedSet(list) => elements.push(list),
        }
    }
    elements
}

/// From left to right; where an item does not fit, the last `*` takes one element more. Earlier ones need not
/// be looked at again: whatever they could take, the last one can. At most items times elements steps.
fn fits(mask: &[Item], path: &[Element<'_>]) -> bool {
    let (mut item, mut element) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while element < path.len() {
        match mask.get(item) {
            Some(Item::Any) => {
                last_any = Some((item, element));
                item += 1;
            }
            Some(one) if one.fits(path[element]) => {
                item += 1;
                element += 1;
            }
            _ => {
                let Some((any, taken)) = &mut last_any else { return false };
                *taken += 1;
                (item, element) = (*any + 1, *taken);
            }
        }
    }
    mask[item..].iter().all(|item| *item == Item::Any)
}

impl Item {
    fn fits(self, element: Element<'_>) -> bool {
        match self {
            Self::Range(first, last) => element.iter().any(|number| (first..=last).contains(number)),
            Self::One => true,
            Self::Any => false,
        }
    }
}

impl FromStr for AsPathMask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        text.split_ascii_whitespace().map(item).collect::<Result<_, _>>().map(Self)
    }
}

fn item(word: &str) -> Result<Item, MaskError> {
    let number = |text: &str| {
        let number = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        number.filter(|number| *number != 0).ok_or_else(|| MaskError::Word(word.to_owned()))
    };
    match (word, word.split_once("..")) {
        ("?", _) => Ok(Item::One),
        ("*", _) => Ok(Item::Any),
        (_, Some((first, last))) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(MaskError::Range(word.to_owned())) } else { Ok(Item::Range(first, last)) }
        }
        _ => number(word).map(|number| Item::Range(number, number)),
    }
}

#[cfg(test)]
mod tests;
