//! What an operator reads when the kernel's verifier refuses a program.

use underpass::datapath::loader::{self, LoadError};
use underpass::datapath::{Engine, OBJECT, pins};
use underpass_common::abi::program;
use underpass_tests::lab::Lab;
use underpass_tests::privilege::can_raise_labs;

/// `w0 = XDP_PASS; exit`: the whole of the pass program.
const PASS_PROGRAM: [u8; 16] = [0xb4, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// `r0 = *(u64 *)(r10 - 32768)`: far below the stack.
const BAD_LOAD: [u8; 8] = [0x79, 0xa0, 0x00, 0x80, 0, 0, 0, 0];

#[test]
fn a_refused_program_is_shown_with_the_end_of_the_verifiers_log() {
    if !can_raise_labs() {
        return;
    }
    let lab = Lab::new().expect("a bpffs of our own");
    let folder = pins::create(&lab.bpffs().join("underpass")).expect("a folder for pins");
    let mut object = OBJECT.to_vec();
    let places: Vec<usize> = (0..object.len() - PASS_PROGRAM.len())
        .filter(|at| object[*at..].starts_with(&PASS_PROGRAM))
        .collect();
    assert!(!places.is_empty(), "the pass program looks different now");
    for at in places {
        object[at..at + BAD_LOAD.len()].copy_from_slice(&BAD_LOAD);
    }
    match loader::load_object(&object, &folder, Engine::Flat) {
        Err(error @ LoadError::Verifier { .. }) => {
            let text = error.to_string();
            assert!(text.starts_with(&format!("the kernel refuses program {}: ", program::PASS)), "{text}");
            assert!(text.contains("invalid read from stack"), "{text}");
            assert!(text.contains("r0 = *(u64 *)(r10 -32768)"), "the instruction itself: {text}");
        }
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("the kernel takes a program that reads below its stack"),
    }
}
