//! Whatever is in a file, it is answered.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever an editor leaves behind is answered with problems at places that exist.
    #[test]
    fn damaged_files_never_panic(cut in 0_usize..400, length in 0_usize..40, insert in "[\\[\\]{}=\",.a-zü0-9 \n#-]{0,8}") {
        let whole = format!("{GATEWAY}[kernel]\nmetric = 5\n");
        let start = whole.floor_char_boundary(cut);
        let end = whole.floor_char_boundary(start + length);
        let text = format!("{}{insert}{}", &whole[..start], &whole[end..]);
        let lines: Vec<&str> = text.split('\n').collect();
        for problem in parse(&text).problems {
            let Position { line, column } = problem.position;
            prop_assert!(line >= 1 && line <= lines.len(), "{problem}");
            prop_assert!(column >= 1 && column <= lines[line - 1].chars().count() + 1, "{problem}");
            prop_assert!(!problem.message.is_empty());
        }
    }

    #[test]
    fn garbage_never_panics(text in "\\PC*") {
        parse(&text);
    }
}
