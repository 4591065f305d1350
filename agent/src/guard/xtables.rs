//! Matches and targets of iptables (`struct xt_*_info`), as legacy tables and nftables' `compat`
//! expressions have them.

use super::attributes::{u16_at, u32_at};
use super::model::{Effect, Match};

/// Matches for which the kernel tracks connections (`nf_ct_netns_get` in their `checkentry`).
const TRACKING: [&str; 10] = [
    "conntrack",
    "state",
    "connmark",
    "connbytes",
    "connlimit",
    "connlabel",
    "helper",
    "cluster",
    "ctstate",
    "ctmark",
];
/// The bit of `RTN_UNICAST` in an address type mask.
const UNICAST: u16 = 1 << 1;
/// `XT_ADDRTYPE_INVERT_DEST`.
const INVERT_DESTINATION: u32 = 2;
/// `XT_CT_NOTRACK`.
const NOTRACK: u16 = 1;

/// What a match says, and whether it makes the kernel track connections.
pub fn condition(name: &str, revision: u32, info: &[u8]) -> (Match, bool) {
    let known = match (name, revision) {
        ("comment", _) => Some(Match::Always),
        // struct xt_mark_mtinfo1: mark, mask, invert.
        ("mark", 1) => mark(info),
        ("addrtype", 0 | 1) => address_type(revision, info),
        _ => None,
    };
    (known.unwrap_or(Match::Maybe), TRACKING.contains(&name))
}

fn mark(info: &[u8]) -> Option<Match> {
    Some(Match::Mark { value: u32_at(info, 0)?, mask: u32_at(info, 4)?, invert: *info.get(8)? != 0 })
}

/// A packet in transit goes to a unicast address that is not local. The types of sources prove nothing.
fn address_type(revision: u32, info: &[u8]) -> Option<Match> {
    let (source, destination) = (u16_at(info, 0)?, u16_at(info, 2)?);
    let invert = match revision {
        0 => u32_at(info, 8)? != 0,
        _ => u32_at(info, 4)? & INVERT_DESTINATION != 0,
    };
    let excluded = destination != 0 && destination & UNICAST == 0;
    Some(match (excluded, invert) {
        (true, false) => Match::Never,
        (true, true) if source == 0 => Match::Always,
        _ => Match::Maybe,
    })
}

/// What a target does, and whether it makes the kernel track connections.
pub fn target(name: &str, revision: u32, info: &[u8]) -> (Effect, bool) {
    let decides = |why: &str| Effect::Decides(why.to_owned());
    let unknown = |why: &str| Effect::Unknown(why.to_owned());
    match name {
        "MARK" if revision == 2 => match (u32_at(info, 0), u32_at(info, 4)) {
            // struct xt_mark_tginfo2: mark = (mark & ~mask) ^ mark.
            (Some(mark), Some(mask)) => (Effect::Mark { keep: !mask, xor: mark }, false),
            _ => (unknown("sets the mark"), false),
        },
        // Untracked is what a packet is for XDP, too.
        "NOTRACK" => (Effect::Harmless, false),
        "CT" if u16_at(info, 0).is_some_and(|flags| flags & NOTRACK != 0) => (Effect::Harmless, false),
        "CT" | "CONNMARK" | "CONNSECMARK" => (unknown("changes its connection"), true),
        "DROP" => (decides("drops it"), false),
        "REJECT" => (decides("rejects it"), false),
        "SNAT" | "DNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" | "DNPT" | "SNPT" => {
            (decides("translates addresses"), true)
        }
        "SYNPROXY" => (decides("answers for the server"), true),
        "TCPMSS" => (decides("changes the TCP segment size"), false),
        "DSCP" | "TOS" | "ECN" | "TTL" | "HL" | "TCPOPTSTRIP" | "CHECKSUM" => {
            (decides("changes the header"), false)
        }
        "LOG" | "NFLOG" | "ULOG" | "AUDIT" | "TRACE" => (decides("logs it"), false),
        "NFQUEUE" | "QUEUE" => (unknown("hands it to a program"), false),
        "TEE" => (decides("copies it"), false),
        other => (unknown(&format!("has the target {other}")), false),
    }
}
