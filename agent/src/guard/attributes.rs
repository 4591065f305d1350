//! Netlink attributes, and numbers in them. Nothing here panics on what the kernel sends.

/// Length of an attribute's header, and the bits of its type that are flags.
const HEADER: usize = 4;
const TYPE_MASK: u16 = 0x3fff;

/// Attributes by kind; a malformed one ends the list.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(own, _)| *own == kind).map(|(_, value)| value)
}

/// A text that ends at the first zero.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The text of an attribute.
pub fn find_text(bytes: &[u8], kind: u16) -> Option<String> {
    find(bytes, kind).map(text)
}

/// The big-endian number of an attribute, as nftables has them.
pub fn find_be32(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(*find(bytes, kind)?.first_chunk()?))
}

/// Two bytes at an offset, in the machine's order.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Four bytes at an offset, in the machine's order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}
