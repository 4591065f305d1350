use proptest::prelude::*;

use super::*;

fn mask(text: &str) -> AsPathMask {
    text.parse().unwrap()
}

fn sequence(list: &[u32]) -> Vec<AsSegment> {
    if list.is_empty() { vec![] } else { vec![AsSegment::Sequence(list.to_vec())] }
}

#[test]
fn masks_fit_whole_paths() {
    let with_set =
        || vec![AsSegment::Sequence(vec![1, 2]), AsSegment::Set(vec![3, 4]), AsSegment::Set(vec![5])];
    let cases: Vec<(&str, Vec<AsSegment>, bool)> = vec![
        ("", sequence(&[]), true),
        ("", sequence(&[1]), false),
        ("1", sequence(&[]), false),
        ("1", sequence(&[1]), true),
        ("1", sequence(&[2]), false),
        ("1", sequence(&[1, 2]), false),
        ("2", sequence(&[1, 2]), false),
        ("1 2", sequence(&[1, 2]), true),
        ("2 1", sequence(&[1, 2]), false),
        ("?", sequence(&[]), false),
        ("?", sequence(&[7]), true),
        ("?", sequence(&[7, 7]), false),
        ("*", sequence(&[]), true),
        ("*", sequence(&[1, 2, 3]), true),
        ("1 *", sequence(&[1]), true),
        ("1 *", sequence(&[1, 2, 3]), true),
        ("1 *", sequence(&[2, 1]), false),
        ("* 3", sequence(&[1, 2, 3]), true),
        ("* 3", sequence(&[3, 1]), false),
        ("* 3", sequence(&[3, 1, 3]), true),
        ("* 2 *", sequence(&[1, 2, 3]), true),
        ("* 2 *", sequence(&[1, 3]), false),
        ("1 ? *", sequence(&[1]), false),
        ("1 ? *", sequence(&[1, 9]), true),
        ("* 1 2 * 2 3", sequence(&[1, 1, 2, 2, 3]), true),
        ("* 1 2 * 2 3", sequence(&[1, 1, 2, 3]), false),
        ("64512..65534", sequence(&[64512]), true),
        ("64512..65534", sequence(&[65534]), true),
        ("64512..65534", sequence(&[65535]), false),
        ("64512..65534", sequence(&[64511]), false),
        ("* 4200000000..4294967294", sequence(&[1, 4_200_000_001]), true),
        ("5..5", sequence(&[5]), true),
        ("1 2 3 5", with_set(), true),
        ("1 2 4 5", with_set(), true),
        ("1 2 ? ?", with_set(), true),
        ("1 2 3 4 5", with_set(), false),
        ("1 2 6 5", with_set(), false),
        ("1 2 4..9 *", with_set(), true),
        ("1 2", vec![AsSegment::Sequence(vec![1]), AsSegment::Sequence(vec![2])], true),
        ("?", vec![AsSegment::Set(vec![])], true),
        ("1", vec![AsSegment::Set(vec![])], false),
    ];
    for (text, path, expected) in cases {
        assert_eq!(mask(text).matches(&path), expected, "{text:?} and {path:?}");
    }
}

#[test]
fn what_is_no_mask() {
    let word = |text: &str| MaskError::Word(text.to_owned());
    let cases = [
        ("1 x", word("x")),
        ("^1_", word("^1_")),
        ("0", word("0")),
        ("1,2", word("1,2")),
        ("+1", word("+1")),
        ("1 **", word("**")),
        ("4294967296", word("4294967296")),
        ("1...3", word("1...3")),
        ("..3", word("..3")),
        ("3..", word("3..")),
        ("0..3", word("0..3")),
        ("9..3", MaskError::Range("9..3".to_owned())),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<AsPathMask>(), Err(expected), "{text:?}");
    }
    assert_eq!("  1\t?  * ".parse::<AsPathMask>(), "1 ? *".parse());
}

#[test]
fn long_masks_and_paths_are_no_burden() {
    let path = sequence(&vec![1; 4000]);
    let text = "* 1 ".repeat(500) + "2";
    let started = std::time::Instant::now();
    assert!(!mask(&text).matches(&path));
    // A matcher that tries every way that the stars could go would not return in this universe.
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// By the definition: a star takes nothing, or one element and is still there.
fn naive(mask: &[Item], path: &[Element<'_>]) -> bool {
    match (mask.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((Item::Any, rest)), None) => naive(rest, path),
        (Some((Item::Any, rest)), Some((_, shorter))) => naive(rest, path) || naive(mask, shorter),
        (None, Some(_)) | (Some(_), None) => false,
        (Some((Item::One, rest)), Some((_, shorter))) => naive(rest, shorter),
        (Some((Item::Range(first, last), rest)), Some((element, shorter))) => {
            element.iter().any(|number| number >= first && number <= last) && naive(rest, shorter)
        }
    }
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let number = 1..4_u32;
    let item = prop_oneof![
        3 => number.clone().prop_map(|number| Item::Range(number, number)),
        1 => (number.clone(), number).prop_map(|(a, b)| Item::Range(a.min(b), a.max(b))),
        1 => Just(Item::One),
        2 => Just(Item::Any),
    ];
    prop::collection::vec(item, 0..8)
}

fn path() -> impl Strategy<Value = Vec<AsSegment>> {
    let list = || prop::collection::vec(1..4_u32, 0..4);
    let segment = prop_oneof![
        4 => list().prop_map(AsSegment::Sequence),
        1 => list().prop_map(AsSegment::Set),
        1 => list().prop_map(AsSegment::ConfedSequence),
    ];
    prop::collection::vec(segment, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_matcher_agrees_with_the_definition(items in items(), path in path()) {
        let expected = naive(&items, &elements(&path));
        prop_assert_eq!(AsPathMask(items).matches(&path), expected);
    }

    #[test]
    fn any_text_is_answered(text in "[0-9?*. x]{0,20}") {
        let _ = text.parse::<AsPathMask>();
    }
}
