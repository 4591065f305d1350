//! A stream of messages, cut anywhere.

use bytes::BytesMut;
use underpass::bgp::notification::Notification;
use underpass::bgp::wire::{self, HEADER, MAX_EXTENDED, MAX_MESSAGE, Message};

use super::Source;

/// Takes a message off the buffer. The one place that says how long it may be.
pub(super) fn decode(buffer: &mut BytesMut) -> Result<Option<Message>, Notification> {
    wire::decode(buffer, MAX_EXTENDED)
}

/// The input is cut in pieces of a length that its first byte decides, then read in one piece: what comes out is
/// the same, never more than the bytes could carry, and what is kept back is less than one message.
pub fn stream(data: &[u8]) {
    let mut source = Source(data);
    let step = usize::from(source.u8()) + 1;
    let bytes = source.0;
    let (mut buffer, mut in_pieces) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(step) {
        buffer.extend_from_slice(piece);
        if drain(&mut buffer, &mut in_pieces).is_err() {
            break;
        }
        assert!(buffer.len() < MAX_EXTENDED, "{} octets are kept back", buffer.len());
    }
    let (mut buffer, mut at_once) = (BytesMut::from(bytes), Vec::new());
    let _ = drain(&mut buffer, &mut at_once);
    assert_eq!(in_pieces, at_once, "in pieces of {step} octets and at once");
    assert!(at_once.len() <= bytes.len() / HEADER + 1, "{} messages", at_once.len());
}

type Outcome = Result<Message, Notification>;

/// Decodes while there is something; `Err` once the stream is given up.
fn drain(buffer: &mut BytesMut, out: &mut Vec<Outcome>) -> Result<(), ()> {
    loop {
        let before = buffer.len();
        match decode(buffer) {
            Ok(None) => return Ok(()),
            Ok(Some(message)) => {
                assert!(before - buffer.len() >= HEADER, "a message takes its bytes off");
                out.push(Ok(message));
            }
            Err(refusal) => {
                assert!((1..=7).contains(&refusal.code), "{refusal}");
                assert!(refusal.data.len() <= before, "{} octets of data", refusal.data.len());
                assert!(wire::notification(&refusal).len() <= MAX_MESSAGE);
                assert!(!refusal.to_string().contains('\n'), "one line in the log");
                out.push(Err(refusal));
                return Err(());
            }
        }
    }
}
