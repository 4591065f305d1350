//! Expressions of nftables (`NFTA_RULE_EXPRESSIONS`) to matches and effects.
//!
//! Expressions load values into registers and compare them there: a comparison with a register whose
//! content is not known proves nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::attributes::{attributes, find, find_be32, find_text, text};
use super::model::{Effect, Match, Name, Range, Rule, Step};
use super::nft_value::{Loaded, Meta};
use super::xtables;

// Attributes of linux/netfilter/nf_tables.h: those of a rule and of an element of its list.
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
/// `NFTA_DATA_VALUE` and `NFTA_DATA_VERDICT`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_REG_VERDICT`.
const VERDICT_REGISTER: u32 = 0;
/// `NFT_OBJECT_COUNTER`.
const OBJECT_COUNTER: u32 = 1;

/// Reads a rule from the attributes of `NFT_MSG_NEWRULE`.
pub fn read(message: &[u8]) -> Rule {
    let handle =
        find(message, RULE_HANDLE).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_be_bytes(*b));
    let mut reader = Reader::default();
    for (kind, element) in attributes(find(message, RULE_EXPRESSIONS).unwrap_or_default()) {
        if kind == LIST_ELEMENT {
            let name = find_text(element, EXPRESSION_NAME).unwrap_or_default();
            reader.expression(&name, find(element, EXPRESSION_DATA).unwrap_or_default());
        }
    }
    let Reader { steps, text, tracks, .. } = reader;
    Rule { id: format!("handle {handle}"), text: text.trim_end().to_owned(), steps, tracks }
}

#[derive(Default)]
struct Reader {
    registers: BTreeMap<u32, Loaded>,
    steps: Vec<Step>,
    text: String,
    tracks: bool,
}

impl Reader {
    fn expression(&mut self, name: &str, data: &[u8]) {
        match name {
            "counter" | "last" | "notrack" => self.say(name),
            "immediate" => self.immediate(data),
            "meta" => self.meta(data),
            "payload" => self.payload(data),
            "cmp" => self.compare(data),
            "range" => self.range(data),
            "bitwise" => self.bitwise(data),
            "fib" => self.fib(data),
            "ct" => self.ct(data),
            "match" => self.compat_match(data),
            "target" => self.compat_target(data),
            "lookup" => self.lookup(data),
            "limit" | "quota" | "connlimit" => {
                self.tracks |= name == "connlimit";
                self.say(name);
                self.steps.push(Step::Match(Match::Maybe));
            }
            // Reads only; the result is not looked at closer.
            "rt" | "socket" | "osf" | "numgen" | "hash" | "tunnel" | "xfrm" | "byteorder" | "inner" => {
                self.registers.clear();
                self.say(name);
                // Without a socket, say, the rule ends here.
                self.steps.push(Step::Match(Match::Maybe));
            }
            // NFTA_EXTHDR_DREG: without it, it writes.
            "exthdr" if find(data, 1).is_some() => {
                self.registers.clear();
                self.say(name);
                self.steps.push(Step::Match(Match::Maybe));
            }
            // NFTA_OBJREF_IMM_TYPE.
            "objref" if find_be32(data, 1) == Some(OBJECT_COUNTER) => self.say("counter"),
            _ => {
                self.tracks |= matches!(name, "nat" | "masq" | "redir" | "synproxy" | "flow_offload");
                self.say(name);
                self.steps.push(Step::Effect(decision(name)));
            }
        }
    }

    fn say(&mut self, words: &str) {
        let _ = write!(self.text, "{words} ");
    }

    fn decides(&mut self, why: impl Into<String>) {
        self.steps.push(Step::Effect(Effect::Decides(why.into())));
    }

    fn load(&mut self, register: Option<u32>, value: Loaded) {
        let Some(slot) = register.and_then(slot) else {
            self.registers.clear();
            return;
        };
        // A value may reach over several slots of 4 bytes, 16 at most; what lies there is no longer known.
        self.registers.retain(|own, loaded| *own + loaded.slots() <= slot || *own >= slot + value.slots());
        self.registers.insert(slot, value);
    }

    fn loaded(&self, register: Option<u32>) -> Option<&Loaded> {
        self.registers.get(&slot(register?)?)
    }

    fn immediate(&mut self, data: &[u8]) {
        let register = find_be32(data, 1);
        let content = find(data, 2).unwrap_or_default();
        if register != Some(VERDICT_REGISTER) {
            let value = find(content, DATA_VALUE).unwrap_or_default().to_vec();
            self.load(register, Loaded::Data(value));
            return;
        }
        let verdict = find(content, DATA_VERDICT).unwrap_or_default();
        let code = find_be32(verdict, 1).map(u32::cast_signed);
        let chain = find_text(verdict, 2).unwrap_or_default();
        let (words, effect) = match code {
            Some(0) => ("drop".to_owned(), Effect::Decides("drops it".to_owned())),
            Some(1) => ("accept".to_owned(), Effect::Accept),
            Some(-1) => ("continue".to_owned(), Effect::Harmless),
            Some(-3) => (format!("jump {chain}"), Effect::Jump(chain)),
            Some(-4) => (format!("goto {chain}"), Effect::Goto(chain)),
            Some(-5) => ("return".to_owned(), Effect::Return),
            other => (
                "queue".to_owned(),
                Effect::Unknown(format!("has the verdict {}", other.unwrap_or_default())),
            ),
        };
        self.say(&words);
        self.steps.push(Step::Effect(effect));
    }

    fn meta(&mut self, data: &[u8]) {
        let key = find_be32(data, 2).unwrap_or(u32::MAX);
        if let Some(register) = find_be32(data, 3) {
            return self.set_meta(key, register);
        }
        self.load(find_be32(data, 1), Loaded::Meta(Meta::of(key)));
    }

    fn set_meta(&mut self, key: u32, register: u32) {
        if Meta::of(key) != Meta::Mark {
            self.say("meta set");
            self.decides("changes what the kernel notes about it");
            return;
        }
        let effect = match self.loaded(Some(register)) {
            Some(Loaded::Data(value)) => value.first_chunk().map(|mark| (0, u32::from_ne_bytes(*mark))),
            Some(Loaded::Masked(inner, mask, xor)) if **inner == Loaded::Meta(Meta::Mark) => {
                let number = |bytes: &[u8]| bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                number(mask).zip(number(xor))
            }
            _ => None,
        };
        self.say("meta mark set");
        match effect {
            Some((keep, xor)) => self.steps.push(Step::Effect(Effect::Mark { keep, xor })),
            None => self.steps.push(Step::Effect(Effect::Unknown("sets the mark".to_owned()))),
        }
    }

    fn payload(&mut self, data: &[u8]) {
        // NFTA_PAYLOAD_SREG: writes.
        if find(data, 5).is_some() {
            self.say("payload set");
            self.decides("changes the packet");
            return;
        }
        let [register, base, offset, length] = [1, 2, 3, 4].map(|kind| find_be32(data, kind));
        let value = match (base, offset, length) {
            (Some(base), Some(offset), Some(length)) => Loaded::Payload { base, offset, length },
            _ => Loaded::Unknown,
        };
        self.load(register, value);
    }

    fn compare(&mut self, data: &[u8]) {
        let operator = find_be32(data, 2);
        let value = find(find(data, 3).unwrap_or_default(), DATA_VALUE).unwrap_or_default();
        let loaded = self.loaded(find_be32(data, 1)).cloned().unwrap_or(Loaded::Unknown);
        // NFT_CMP_EQ and NFT_CMP_NEQ; the others order numbers.
        let condition = match operator {
            Some(0) => loaded.equals(value, false),
            Some(1) => loaded.equals(value, true),
            _ => Match::Maybe,
        };
        self.say(&loaded.describe(value, operator));
        self.steps.push(Step::Match(condition));
    }

    fn range(&mut self, data: &[u8]) {
        let [from, to] =
            [3, 4].map(|kind| find(find(data, kind).unwrap_or_default(), DATA_VALUE).unwrap_or_default());
        let invert = find_be32(data, 2) != Some(0);
        let loaded = self.loaded(find_be32(data, 1)).cloned().unwrap_or(Loaded::Unknown);
        let bits = u32::try_from(from.len() * 8).unwrap_or(0);
        let range = Range::prefix(from, bits).zip(Range::prefix(to, bits));
        let range = range.map(|(from, to)| Range { last: to.last, ..from });
        self.say(&loaded.describe(from, Some(u32::from(invert))));
        self.steps.push(Step::Match(match range {
            Some(range) => loaded.in_range(range, invert),
            None => Match::Maybe,
        }));
    }

    fn bitwise(&mut self, data: &[u8]) {
        let loaded = self.loaded(find_be32(data, 1)).cloned();
        let [mask, xor] =
            [4, 5].map(|kind| find(data, kind).and_then(|data| find(data, DATA_VALUE)).map(<[u8]>::to_vec));
        // NFT_BITWISE_MASK_XOR; shifts and the like are not followed.
        let plain = find_be32(data, 6).unwrap_or(0) == 0;
        let value = match (loaded, mask, xor) {
            (Some(loaded), Some(mask), Some(xor)) if plain => Loaded::Masked(Box::new(loaded), mask, xor),
            _ => Loaded::Unknown,
        };
        self.load(find_be32(data, 2), value);
    }

    fn fib(&mut self, data: &[u8]) {
        // NFT_FIB_RESULT_ADDRTYPE of the destination (NFTA_FIB_F_DADDR, not _SADDR).
        let flags = find_be32(data, 3).unwrap_or(0);
        let destination_type = find_be32(data, 2) == Some(3) && flags & 3 == 2;
        let value = if destination_type { Loaded::DestinationType } else { Loaded::Unknown };
        self.load(find_be32(data, 1), value);
    }

    fn ct(&mut self, data: &[u8]) {
        self.tracks = true;
        if find(data, 4).is_some() {
            self.say("ct set");
            self.decides("changes its connection");
            return;
        }
        self.load(find_be32(data, 1), Loaded::Ct(find_be32(data, 2).unwrap_or(u32::MAX)));
        // Without a connection some keys end the rule.
        self.steps.push(Step::Match(Match::Maybe));
    }

    fn lookup(&mut self, data: &[u8]) {
        let set = find_text(data, 1).unwrap_or_default();
        let loaded = self.loaded(find_be32(data, 2)).cloned().unwrap_or(Loaded::Unknown);
        self.say(&format!("{} @{set}", loaded.name()));
        self.steps.push(Step::Match(Match::Maybe));
        match find_be32(data, 3) {
            // Among the verdicts may be jumps to chains that set the mark.
            Some(VERDICT_REGISTER) => {
                self.steps.push(Step::Effect(Effect::Unknown("looks up a verdict".to_owned())));
            }
            Some(_) => self.registers.clear(),
            None => {}
        }
    }

    fn compat_match(&mut self, data: &[u8]) {
        let (name, revision) = (find_text(data, 1).unwrap_or_default(), find_be32(data, 2).unwrap_or(0));
        let (condition, tracks) = xtables::condition(&name, revision, find(data, 3).unwrap_or_default());
        self.tracks |= tracks;
        self.say(&format!("-m {name}"));
        self.steps.push(Step::Match(condition));
    }

    fn compat_target(&mut self, data: &[u8]) {
        let (name, revision) = (find_text(data, 1).unwrap_or_default(), find_be32(data, 2).unwrap_or(0));
        let (effect, tracks) = xtables::target(&name, revision, find(data, 3).unwrap_or_default());
        self.tracks |= tracks;
        self.say(&format!("-j {name}"));
        self.steps.push(Step::Effect(effect));
    }
}

/// Registers 1 to 4 have 16 bytes each, 8 and above are the same memory in pieces of 4.
const fn slot(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 4),
        8..=23 => Some(register - 8),
        _ => None,
    }
}

/// What an expression does that is no match.
fn decision(name: &str) -> Effect {
    let why = match name {
        "reject" => "rejects it",
        "nat" | "masq" | "redir" => "translates addresses",
        "log" => "logs it",
        "dup" => "copies it",
        "fwd" => "sends it elsewhere",
        "flow_offload" => "puts its flow into a flow table",
        "tproxy" => "hands it to a local socket",
        "synproxy" => "answers for the server",
        "exthdr" => "changes the packet",
        "dynset" => "changes a set by it",
        "queue" => return Effect::Unknown("hands it to a program".to_owned()),
        other => return Effect::Unknown(format!("has the expression {other}")),
    };
    Effect::Decides(why.to_owned())
}

/// The name in a comparison: whole with its final zero, or the beginning.
pub(super) fn interface_name(value: &[u8]) -> Name {
    Name { text: text(value), prefix: !value.contains(&0) && value.len() < 16 }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).expect("short").to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn number(kind: u16, value: u32) -> Vec<u8> {
        attribute(kind, &value.to_be_bytes())
    }

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let name = attribute(EXPRESSION_NAME, &[name.as_bytes(), &[0]].concat());
        attribute(LIST_ELEMENT, &[name, attribute(EXPRESSION_DATA, &data.concat())].concat())
    }

    fn rule(expressions: &[Vec<u8>]) -> Rule {
        read(&attribute(RULE_EXPRESSIONS, &expressions.concat()))
    }

    fn load(register: u32, offset: u32, length: u32) -> Vec<u8> {
        expression("payload", &[number(1, register), number(2, 1), number(3, offset), number(4, length)])
    }

    fn equals(register: u32, value: &[u8]) -> Vec<u8> {
        expression("cmp", &[number(1, register), number(2, 0), attribute(3, &attribute(DATA_VALUE, value))])
    }

    #[test]
    fn a_comparison_is_with_what_the_register_holds() {
        let daddr =
            Step::Match(Match::Destination(Range::prefix(&[10, 0, 0, 1], 32).expect("a range"), false));
        let maybe = Step::Match(Match::Maybe);
        let address = [10, 0, 0, 1];
        for (name, expressions, expected) in [
            ("its own", vec![load(1, 16, 4), equals(1, &address)], vec![daddr.clone()]),
            ("by its other number", vec![load(1, 16, 4), equals(8, &address)], vec![daddr.clone()]),
            ("nothing", vec![equals(1, &address)], vec![maybe.clone()]),
            (
                "something else since",
                vec![load(1, 16, 4), load(8, 9, 1), equals(1, &address)],
                vec![maybe.clone()],
            ),
            (
                "something beside",
                vec![load(8, 16, 4), load(9, 9, 1), equals(8, &address)],
                vec![daddr.clone()],
            ),
            (
                "overwritten from below",
                vec![load(9, 16, 4), load(8, 8, 16), equals(9, &address)],
                vec![maybe.clone()],
            ),
            (
                "unknown",
                vec![load(1, 16, 4), expression("hash", &[number(2, 1)]), equals(1, &address)],
                vec![maybe.clone(), maybe.clone()],
            ),
        ] {
            assert_eq!(rule(&expressions).steps, expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_known_decides() {
        for name in ["queue", "reject", "payload", "exthdr", "dynset", "objref", "of_tomorrow", ""] {
            // Attribute 5 of `payload` is a source register.
            let steps = rule(&[expression(name, &[number(5, 1)])]).steps;
            assert!(
                matches!(steps[..], [Step::Effect(Effect::Decides(_) | Effect::Unknown(_))]),
                "{name}: {steps:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let names = ["cmp", "meta", "payload", "bitwise", "range", "immediate", "ct", "fib", "lookup", "match", "target"];
            for name in names {
                let _ = rule(&[load(1, 16, 4), expression(name, &[number(1, 1), bytes.clone()])]);
            }
        }
    }
}
