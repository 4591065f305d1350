//! A small encoder of its own: it shares no code with any of the three codecs.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use underpass_tests::fake_peer;

use super::plan::{Kind, Path, Plan};

const AS_TRANS: u16 = 23456;

/// The whole message.
pub fn update(plan: &Plan) -> Vec<u8> {
    let withdrawn = prefixes(&plan.withdrawn_v4, plan.kind);
    let announced = prefixes(&plan.announced_v4, plan.kind);
    let attributes = attributes(plan);
    let attributes: Vec<&[u8]> = attributes.iter().map(Vec::as_slice).collect();
    fake_peer::update(&withdrawn, &attributes, &announced)
}

fn attributes(plan: &Plan) -> Vec<Vec<u8>> {
    let said = &plan.attributes;
    let mut list = Vec::new();
    if !plan.withdrawn_v6.is_empty() {
        let value = [&[0, 2, 1][..], &prefixes(&plan.withdrawn_v6, plan.kind)].concat();
        list.push(attribute(0x80, 15, &value));
    }
    if plan.announced_v4.is_empty() && plan.announced_v6.is_empty() {
        return list;
    }
    list.push(attribute(0x40, 1, &[said.origin]));
    list.extend(as_path(&said.as_path, plan.kind));
    if !plan.announced_v4.is_empty() {
        list.push(attribute(0x40, 3, &plan.next_hop_v4.octets()));
    }
    list.extend(said.med.map(|value| attribute(0x80, 4, &value.to_be_bytes())));
    list.extend(said.local_pref.map(|value| attribute(0x40, 5, &value.to_be_bytes())));
    if !said.communities.is_empty() {
        list.push(attribute(0xc0, 8, &numbers(&said.communities)));
    }
    list.extend(said.originator.map(|id| attribute(0x80, 9, &id.octets())));
    if !said.clusters.is_empty() {
        let octets: Vec<u8> = said.clusters.iter().flat_map(Ipv4Addr::octets).collect();
        list.push(attribute(0x80, 10, &octets));
    }
    if !plan.announced_v6.is_empty() {
        list.push(attribute(0x80, 14, &reach(plan)));
    }
    list
}

fn reach(plan: &Plan) -> Vec<u8> {
    let mut next_hop = plan.next_hop_v6.octets().to_vec();
    next_hop.extend(plan.link_local.into_iter().flat_map(|address| address.octets()));
    let length = u8::try_from(next_hop.len()).expect("16 or 32");
    [&[0, 2, 1, length][..], &next_hop, &[0], &prefixes(&plan.announced_v6, plan.kind)].concat()
}

/// `AS_PATH`, and `AS4_PATH` where two octets do not suffice (RFC 6793 §4.2.2).
fn as_path(path: &[Vec<u32>], kind: Kind) -> Vec<Vec<u8>> {
    let wide = segments(path, |number| number.to_be_bytes().to_vec());
    if kind.four_octet_as {
        return vec![attribute(0x40, 2, &wide)];
    }
    let narrow = segments(path, |number| u16::try_from(number).unwrap_or(AS_TRANS).to_be_bytes().to_vec());
    let mut list = vec![attribute(0x40, 2, &narrow)];
    if path.iter().flatten().any(|number| u16::try_from(*number).is_err()) {
        list.push(attribute(0xc0, 17, &wide));
    }
    list
}

fn segments(path: &[Vec<u32>], octets: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut value = Vec::new();
    for segment in path {
        value.extend([2, u8::try_from(segment.len()).expect("a short segment")]);
        value.extend(segment.iter().flat_map(|number| octets(*number)));
    }
    value
}

fn numbers(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    if let Ok(length) = u8::try_from(value.len()) {
        return [&[flags, kind, length][..], value].concat();
    }
    let length = u16::try_from(value.len()).expect("a short attribute").to_be_bytes();
    [&[flags | 0x10, kind][..], &length, value].concat()
}

fn prefixes(list: &[Path], kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (prefix, path_id) in list {
        if kind.add_path {
            bytes.extend(path_id.to_be_bytes());
        }
        bytes.push(prefix.prefix_len());
        let octets = usize::from(prefix.prefix_len()).div_ceil(8);
        bytes.extend(&address(prefix)[..octets]);
    }
    bytes
}

fn address(prefix: &IpNet) -> Vec<u8> {
    match prefix.addr() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
