//! Policy rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, Parseable};
use netlink_packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleHeader};
use netlink_packet_route::{AddressFamily, IpProtocol};

use super::{attributes, prefix};
use crate::netlink::model::{Family, Rule, RuleAction};

/// `struct fib_rule_hdr`.
const HEADER: usize = 12;
/// `FRA_PAD` (`linux/fib_rules.h`).
const FRA_PAD: u16 = 18;
/// "Not set", which the kernel also announces.
const NONE: u32 = u32::MAX;

/// A rule; `None` for other families.
pub fn rule(payload: &[u8]) -> Result<Option<Rule>, DecodeError> {
    let header = RuleHeader::parse(payload)?;
    let (family, unspecified) = match header.family {
        AddressFamily::Inet => (Family::Ipv4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AddressFamily::Inet6 => (Family::Ipv6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => return Ok(None),
    };
    let mut reader = Reader {
        rule: Rule {
            family,
            priority: 0,
            action: RuleAction::Nop,
            source: None,
            destination: None,
            input_interface: None,
            output_interface: None,
            invert: header.flags.contains(RuleFlags::Invert),
            mark: None,
            suppress_prefix_length: None,
            suppress_interface_group: false,
            l3mdev: false,
            has_other_selector: header.tos != 0,
        },
        table: u32::from(header.table),
        target: None,
        source: unspecified,
        destination: unspecified,
        mark: 0,
        mask: None,
    };
    for attribute in attributes(payload, HEADER).filter(|attribute| attribute.kind() != FRA_PAD) {
        match RuleAttribute::parse(&attribute) {
            Ok(attribute) => reader.read(attribute),
            Err(_) => reader.rule.has_other_selector = true,
        }
    }
    reader.finish(&header).map(Some)
}

/// A rule half read.
struct Reader {
    rule: Rule,
    table: u32,
    target: Option<u32>,
    source: IpAddr,
    destination: IpAddr,
    mark: u32,
    mask: Option<u32>,
}

impl Reader {
    fn read(&mut self, attribute: RuleAttribute) {
        let rule = &mut self.rule;
        match attribute {
            RuleAttribute::Source(address) => self.source = address,
            RuleAttribute::Destination(address) => self.destination = address,
            RuleAttribute::Priority(priority) => rule.priority = priority,
            RuleAttribute::Table(table) => self.table = table,
            RuleAttribute::Goto(target) => self.target = Some(target),
            RuleAttribute::Iifname(name) => rule.input_interface = Some(name),
            RuleAttribute::Oifname(name) => rule.output_interface = Some(name),
            RuleAttribute::FwMark(mark) => self.mark = mark,
            RuleAttribute::FwMask(mask) => self.mask = Some(mask),
            RuleAttribute::SuppressPrefixLen(length) => {
                rule.suppress_prefix_length = Some(length).filter(|length| *length != NONE);
            }
            RuleAttribute::SuppressIfGroup(group) => rule.suppress_interface_group = group != NONE,
            RuleAttribute::L3MDev(l3mdev) => rule.l3mdev = l3mdev,
            // Who added the rule, and a tag for accounting: neither selects.
            RuleAttribute::Protocol(_) | RuleAttribute::Realm(_) => {}
            RuleAttribute::IpProtocol(protocol) => rule.has_other_selector |= protocol != IpProtocol::from(0),
            RuleAttribute::TunId(id) => rule.has_other_selector |= id != 0,
            _ => rule.has_other_selector = true,
        }
    }

    fn finish(mut self, header: &RuleHeader) -> Result<Rule, DecodeError> {
        if header.src_len > 0 {
            self.rule.source = Some(prefix(self.source, header.src_len)?);
        }
        if header.dst_len > 0 {
            self.rule.destination = Some(prefix(self.destination, header.dst_len)?);
        }
        // A mark without a mask is compared in all bits.
        self.rule.mark = match (self.mark, self.mask) {
            (0, None) => None,
            (mark, mask) => Some((mark, mask.unwrap_or(u32::MAX))),
        };
        self.rule.action = match (header.action, self.target) {
            (Action::ToTable, _) => RuleAction::Table(self.table),
            (Action::Goto, Some(target)) => RuleAction::Goto(target),
            (Action::Nop, _) => RuleAction::Nop,
            (Action::Blackhole, _) => RuleAction::Blackhole,
            (Action::Unreachable, _) => RuleAction::Unreachable,
            (Action::Prohibit, _) => RuleAction::Prohibit,
            (other, _) => RuleAction::Unknown(other.into()),
        };
        Ok(self.rule)
    }
}
