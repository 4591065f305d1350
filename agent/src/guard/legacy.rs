//! The tables of legacy iptables and ip6tables, as the kernel hands them out (`struct ipt_entry`,
//! `struct ip6t_entry`). Pure; [`crate::sys::xtables`] reads them.

use std::collections::BTreeMap;
use std::io;

use super::attributes::{text, u16_at, u32_at};
use super::model::{Base, Chain, Effect, Hook, Match, Name, Owner, Range, Rule, Step, Table};
use super::xtables;
use crate::netlink::model::Family;
use crate::sys::xtables::Blob;

/// Where things are in an entry.
struct Layout {
    owner: Owner,
    /// Bytes of an address.
    address: usize,
    /// Offset of the protocol, flags and inverse flags.
    protocol: usize,
    flags: usize,
    invert: usize,
    /// Offset of `target_offset`, followed by `next_offset`.
    target: usize,
    /// Where matches begin.
    size: usize,
}

const IPV4: Layout =
    Layout { owner: Owner::Iptables, address: 4, protocol: 80, flags: 82, invert: 83, target: 88, size: 112 };
const IPV6: Layout = Layout {
    owner: Owner::Ip6tables,
    address: 16,
    protocol: 128,
    flags: 131,
    invert: 132,
    target: 140,
    size: 168,
};

/// Inverse flags (`IPT_INV_*`): input and output interface, (TOS,) source, destination, fragment, protocol.
const INVERT_INPUT: u8 = 1;
const INVERT_OUTPUT: u8 = 2;
const INVERT_SOURCE: u8 = 8;
const INVERT_DESTINATION: u8 = 16;
/// `IPT_F_FRAG` and `IPT_F_GOTO`; of ip6tables `IP6T_F_GOTO` is 4.
const FRAGMENT: u8 = 1;
const NAME_BYTES: usize = 16;
/// Length of `struct xt_entry_match` and `xt_entry_target` before their data; the name in them.
const EXTENSION_HEADER: usize = 32;
const EXTENSION_NAME: std::ops::Range<usize> = 2..31;
const EXTENSION_REVISION: usize = 31;
/// `XT_RETURN` and the verdicts, as a standard target has them.
const RETURN: i32 = -5;
const ACCEPT: i32 = -2;

/// What does not fit together.
fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel's table is not understood: {what}"))
}

/// Reads a table.
///
/// # Errors
/// `InvalidData`: the entries are not what this version knows.
pub fn read(blob: &Blob, family: Family) -> io::Result<Table> {
    let layout = match family {
        Family::Ipv4 => &IPV4,
        Family::Ipv6 => &IPV6,
    };
    let entries = entries(&blob.entries, layout)?;
    let starts = chain_starts(blob, &entries);
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    for (start, (name, base)) in &starts {
        chains.insert(
            name.clone(),
            Chain { base: base.clone(), rules: rules(*start, &entries, &starts, layout)? },
        );
    }
    // A base chain's policy is its last entry.
    for (hook, start, underflow) in hooks(blob) {
        if let Some((name, _)) = starts.get(&start)
            && let Some(base) = chains.get_mut(name).and_then(|chain| chain.base.as_mut())
        {
            let policy = entries.get(&underflow).ok_or_else(|| malformed("a policy is missing"))?;
            base.drops = policy.verdict()? != ACCEPT;
            base.hook = hook_of(hook);
        }
    }
    Ok(Table { owner: layout.owner, name: blob.table.clone(), chains })
}

/// An entry's pieces.
struct Entry<'a> {
    bytes: &'a [u8],
    target: usize,
}

impl Entry<'_> {
    fn target_name(&self) -> String {
        text(self.bytes.get(self.target..).and_then(|bytes| bytes.get(EXTENSION_NAME)).unwrap_or_default())
    }

    fn target_data(&self) -> &[u8] {
        self.bytes.get(self.target + EXTENSION_HEADER..).unwrap_or_default()
    }

    fn verdict(&self) -> io::Result<i32> {
        u32_at(self.target_data(), 0).map(u32::cast_signed).ok_or_else(|| malformed("a verdict is missing"))
    }
}

fn entries<'a>(bytes: &'a [u8], layout: &Layout) -> io::Result<BTreeMap<usize, Entry<'a>>> {
    let mut entries = BTreeMap::new();
    let mut offset = 0;
    while offset < bytes.len() {
        let rest = &bytes[offset..];
        let target =
            u16_at(rest, layout.target).map(usize::from).ok_or_else(|| malformed("an entry is cut off"))?;
        let next = u16_at(rest, layout.target + 2).map_or(0, usize::from);
        let entry = rest.get(..next).filter(|_| target >= layout.size && next >= target + EXTENSION_HEADER);
        let bytes = entry.ok_or_else(|| malformed("an entry's length"))?;
        entries.insert(offset, Entry { bytes, target });
        offset += next;
    }
    Ok(entries)
}

/// Hook number, first entry and policy of each base chain.
fn hooks(blob: &Blob) -> Vec<(usize, usize, usize)> {
    let number = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    let used = (0..5).filter(|hook| blob.valid_hooks & (1 << hook) != 0);
    used.map(|hook| (hook, number(blob.hook_entry[hook]), number(blob.underflow[hook]))).collect()
}

const fn hook_of(number: usize) -> Hook {
    match number {
        0 => Hook::Prerouting,
        2 => Hook::Forward,
        4 => Hook::Postrouting,
        _ => Hook::Elsewhere,
    }
}

const fn chain_of(number: usize) -> &'static str {
    match number {
        0 => "PREROUTING",
        1 => "INPUT",
        2 => "FORWARD",
        3 => "OUTPUT",
        _ => "POSTROUTING",
    }
}

/// `NF_IP_PRI_*` of the tables.
fn priority(table: &str, hook: usize) -> i32 {
    match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", 0) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    }
}

type Starts = BTreeMap<usize, (String, Option<Base>)>;

/// First entries of all chains: those of the hooks, and those behind an entry with the target ERROR,
/// which has a chain's name.
fn chain_starts(blob: &Blob, entries: &BTreeMap<usize, Entry<'_>>) -> Starts {
    let mut starts = Starts::new();
    for (hook, start, _) in hooks(blob) {
        let base = Base {
            hook: Hook::Elsewhere,
            priority: priority(&blob.table, hook),
            drops: true,
            devices: Vec::new(),
        };
        starts.insert(start, (chain_of(hook).to_owned(), Some(base)));
    }
    for (offset, entry) in entries {
        let next = offset + entry.bytes.len();
        if entry.target_name() == "ERROR" && entries.contains_key(&next) {
            starts.insert(next, (text(entry.target_data()), None));
        }
    }
    starts
}

/// The rules of the chain that begins at `start`; its last entry is the policy, or the return of a
/// chain that is jumped to.
fn rules(
    start: usize,
    entries: &BTreeMap<usize, Entry<'_>>,
    starts: &Starts,
    layout: &Layout,
) -> io::Result<Vec<Rule>> {
    let ends = |offset: &usize, entry: &Entry<'_>| {
        *offset != start && (starts.contains_key(offset) || entry.target_name() == "ERROR")
    };
    let own = entries.range(start..).take_while(|(offset, entry)| !ends(offset, entry));
    let own: Vec<_> = own.filter(|(_, entry)| entry.target_name() != "ERROR").collect();
    let (_, own) = own.split_last().ok_or_else(|| malformed("a chain without an end"))?;
    (1..).zip(own).map(|(number, (offset, entry))| rule(number, **offset, entry, starts, layout)).collect()
}

fn rule(
    number: usize,
    offset: usize,
    entry: &Entry<'_>,
    starts: &Starts,
    layout: &Layout,
) -> io::Result<Rule> {
    let mut steps = Vec::new();
    let mut words = Vec::new();
    header(entry.bytes, layout, &mut steps, &mut words);
    let mut tracks = false;
    let mut at = layout.size;
    while at < entry.target {
        let extension = &entry.bytes[at..entry.target];
        let size = u16_at(extension, 0).map_or(0, usize::from);
        let name = text(extension.get(EXTENSION_NAME).unwrap_or_default());
        let data = extension.get(EXTENSION_HEADER..size).ok_or_else(|| malformed("a match's length"))?;
        let revision = extension.get(EXTENSION_REVISION).copied().unwrap_or(0);
        let (condition, by_match) = xtables::condition(&name, revision.into(), data);
        tracks |= by_match;
        words.push(format!("-m {name}"));
        steps.push(Step::Match(condition));
        at += size;
    }
    let name = entry.target_name();
    let effect = if name.is_empty() {
        standard(entry, offset, starts, layout)?
    } else {
        let revision = entry.bytes.get(entry.target + EXTENSION_REVISION).copied().unwrap_or(0);
        let (effect, by_target) = xtables::target(&name, revision.into(), entry.target_data());
        tracks |= by_target;
        effect
    };
    words.extend(match &effect {
        Effect::Accept => Some("-j ACCEPT".to_owned()),
        Effect::Return => Some("-j RETURN".to_owned()),
        Effect::Jump(chain) => Some(format!("-j {chain}")),
        Effect::Goto(chain) => Some(format!("-g {chain}")),
        Effect::Decides(_) if name.is_empty() => Some("-j DROP".to_owned()),
        Effect::Unknown(_) if name.is_empty() => Some("-j QUEUE".to_owned()),
        _ if name.is_empty() => None,
        _ => Some(format!("-j {name}")),
    });
    steps.push(Step::Effect(effect));
    Ok(Rule { id: format!("rule {number}"), text: words.join(" "), steps, tracks })
}

/// A verdict, a jump, or nothing at all (a jump to the next entry).
fn standard(entry: &Entry<'_>, offset: usize, starts: &Starts, layout: &Layout) -> io::Result<Effect> {
    let verdict = entry.verdict()?;
    if let Ok(to) = usize::try_from(verdict) {
        if to == offset + entry.bytes.len() {
            return Ok(Effect::Harmless);
        }
        let (chain, _) = starts.get(&to).ok_or_else(|| malformed("a jump to no chain"))?;
        let goto = if layout.owner == Owner::Iptables { 2 } else { 4 };
        let goes = entry.bytes.get(layout.flags).is_some_and(|flags| flags & goto != 0);
        return Ok(if goes { Effect::Goto(chain.clone()) } else { Effect::Jump(chain.clone()) });
    }
    Ok(match verdict {
        ACCEPT => Effect::Accept,
        RETURN => Effect::Return,
        -1 => Effect::Decides("drops it".to_owned()),
        _ => Effect::Unknown("hands it to a program".to_owned()),
    })
}

/// Addresses, interfaces and protocol.
fn header(entry: &[u8], layout: &Layout, steps: &mut Vec<Step>, words: &mut Vec<String>) {
    let part =
        |index: usize| entry.get(index * layout.address..(index + 1) * layout.address).unwrap_or_default();
    let names = 4 * layout.address;
    let name = |index: usize| {
        entry.get(names + index * NAME_BYTES..).and_then(|bytes| bytes.get(..NAME_BYTES)).unwrap_or_default()
    };
    let inverse = entry.get(layout.invert).copied().unwrap_or(0);
    let inverted = |bit: u8| inverse & bit != 0;
    let sign = |invert: bool| if invert { "! " } else { "" };
    for (index, bit, option) in [(0, INVERT_INPUT, "-i"), (1, INVERT_OUTPUT, "-o")] {
        if let Some(pattern) = interface(name(index), name(index + 2)) {
            let plus = if pattern.prefix { "+" } else { "" };
            words.push(format!("{}{option} {}{plus}", sign(inverted(bit)), pattern.text));
            steps.push(Step::Match(match index {
                0 => Match::Input(pattern, inverted(bit)),
                _ => Match::Output(pattern, inverted(bit)),
            }));
        }
    }
    for (index, bit, option) in [(0, INVERT_SOURCE, "-s"), (1, INVERT_DESTINATION, "-d")] {
        let (address, mask) = (part(index), part(index + 2));
        if mask.iter().all(|byte| *byte == 0) && !inverted(bit) {
            continue;
        }
        let bits: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
        let plain = is_prefix(mask);
        words.push(format!("{}{option} {}/{bits}", sign(inverted(bit)), address_text(address)));
        let range = Range::prefix(address, bits).filter(|_| plain);
        steps.push(Step::Match(match (range, index) {
            (Some(range), 0) => Match::Source(range, inverted(bit)),
            (Some(range), _) => Match::Destination(range, inverted(bit)),
            (None, _) => Match::Maybe,
        }));
    }
    let protocol = entry.get(layout.protocol..).and_then(|rest| u16_at(rest, 0)).unwrap_or(0);
    let fragment =
        layout.owner == Owner::Iptables && entry.get(layout.flags).is_some_and(|flags| flags & FRAGMENT != 0);
    if protocol != 0 || fragment {
        words.push(if fragment { "-f".to_owned() } else { format!("-p {protocol}") });
        steps.push(Step::Match(Match::Maybe));
    }
}

/// A name with its mask: all zero, whole with its final zero, or the beginning.
fn interface(name: &[u8], mask: &[u8]) -> Option<Name> {
    let length = mask.iter().take_while(|byte| **byte != 0).count();
    let masked = name.get(..length).unwrap_or_default();
    (length > 0).then(|| Name { text: text(masked), prefix: !masked.contains(&0) && length < NAME_BYTES })
}

fn is_prefix(mask: &[u8]) -> bool {
    let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let number = mask.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let shift = 128 - u32::try_from(mask.len() * 8).unwrap_or(128);
    number.checked_shl(shift).unwrap_or(0).leading_ones() == ones
}

fn address_text(bytes: &[u8]) -> String {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(bytes).to_string();
    }
    <[u8; 16]>::try_from(bytes)
        .map_or_else(|_| String::new(), |bytes| std::net::Ipv6Addr::from(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// An entry of IPv4 without matches, with a standard target.
    fn entry(verdict: i32) -> Vec<u8> {
        let mut bytes = vec![0; IPV4.size + EXTENSION_HEADER + 8];
        let length = u16::try_from(bytes.len()).expect("short");
        bytes[IPV4.target..IPV4.target + 2].copy_from_slice(&112_u16.to_ne_bytes());
        bytes[IPV4.target + 2..IPV4.target + 4].copy_from_slice(&length.to_ne_bytes());
        bytes[IPV4.size..IPV4.size + 2].copy_from_slice(&40_u16.to_ne_bytes());
        bytes[IPV4.size + EXTENSION_HEADER..][..4].copy_from_slice(&verdict.to_ne_bytes());
        bytes
    }

    fn forward(entries: &[i32]) -> Blob {
        let entries: Vec<Vec<u8>> = entries.iter().map(|verdict| entry(*verdict)).collect();
        let length = entries.first().map_or(0, Vec::len);
        let last = u32::try_from(length * (entries.len() - 1)).expect("short");
        Blob {
            table: "filter".to_owned(),
            valid_hooks: 1 << 2,
            hook_entry: [0; 5],
            underflow: [last; 5],
            entries: entries.concat(),
        }
    }

    #[test]
    fn verdicts_and_policies() {
        let table = read(&forward(&[-1, ACCEPT, RETURN, -4, -1]), Family::Ipv4).expect("a table");
        let chain = &table.chains["FORWARD"];
        let base = chain.base.as_ref().expect("a base chain");
        assert_eq!((base.hook, base.priority, base.drops), (Hook::Forward, 0, true));
        let texts: Vec<&str> = chain.rules.iter().map(|rule| rule.text.as_str()).collect();
        assert_eq!(texts, ["-j DROP", "-j ACCEPT", "-j RETURN", "-j QUEUE"]);
        let accepts = read(&forward(&[ACCEPT]), Family::Ipv4).expect("a table");
        assert!(accepts.chains["FORWARD"].base.as_ref().is_some_and(|base| !base.drops));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let whole = forward(&[-1, ACCEPT]);
        for (name, blob) in [
            ("cut off", Blob { entries: whole.entries[..200].to_vec(), ..whole.clone() }),
            ("no policy", Blob { underflow: [7; 5], ..whole.clone() }),
            ("a jump to no chain", forward(&[8, ACCEPT])),
        ] {
            assert!(read(&blob, Family::Ipv4).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(
            entries in vec(any::<u8>(), 0..600),
            offsets in proptest::array::uniform5(0..600_u32),
            hooks: u32,
        ) {
            let blob = Blob { table: "nat".to_owned(), valid_hooks: hooks, hook_entry: offsets, underflow: offsets, entries };
            let _ = read(&blob, Family::Ipv4);
            let _ = read(&blob, Family::Ipv6);
        }

        #[test]
        fn damaged_entries_do_not_panic(damage in vec((0..456_usize, any::<u8>()), 1..6)) {
            let mut blob = forward(&[-1, RETURN, ACCEPT]);
            for (at, byte) in damage {
                blob.entries[at] = byte;
            }
            let _ = read(&blob, Family::Ipv4);
        }
    }
}
