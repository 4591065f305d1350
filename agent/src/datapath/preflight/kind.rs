//! Kinds of virtual devices and of masters, and why XDP stays away from them.

const IN_THE_STACK: &str =
    "whose packets are made and taken apart in the stack: take it out of datapath.ports";
const ON_A_DEVICE: &str =
    "whose packets come in on the device below it: name that device in datapath.ports instead";
const NO_WIRE: &str = "behind which there is no network: take it out of datapath.ports";

/// Why a device of this kind (`IFLA_INFO_KIND`) is no port; `None` for kinds that can be one (veth, tun
/// in its tap form) and for kinds unknown to us, about which the driver decides.
pub fn refused(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "bond" | "team" => {
            "whose packets come in on its own ports, and to which XDP cannot redirect: take it out of \
             datapath.ports, or give each uplink an address and a route of its own instead"
        }
        "bridge" => {
            "which switches by a table of its own, and to which XDP cannot redirect: take it out of \
             datapath.ports"
        }
        "vlan" => {
            "whose tagged frames come in on the device below it and are the kernel's: take it out of \
             datapath.ports"
        }
        "macsec" => "whose frames are decrypted above XDP: take it out of datapath.ports",
        "macvlan" | "macvtap" | "ipvlan" | "ipvtap" => ON_A_DEVICE,
        "dummy" | "ifb" | "nlmon" | "vcan" | "netdevsim" => NO_WIRE,
        "netkit" => {
            "whose other end is a pod, which has a fast path of its own: take it out of datapath.ports"
        }
        "vrf" => "which is a routing table and not a link: take it out of datapath.ports",
        "bareudp" | "erspan" | "geneve" | "gre" | "gretap" | "gtp" | "ip6erspan" | "ip6gre" | "ip6gretap"
        | "ip6tnl" | "ipip" | "sit" | "vti" | "vti6" | "vxlan" | "wireguard" | "xfrm" | "amt" | "hsr" => {
            IN_THE_STACK
        }
        _ => return None,
    })
}

/// What a master of this kind does with the packets of its ports.
pub fn master(kind: &str, vlan_filtering: bool) -> &'static str {
    match kind {
        "bridge" if vlan_filtering => "which switches its packets and filters them by VLAN",
        "bridge" => "which switches its packets",
        "bond" | "team" => "by which the kernel receives and routes its packets",
        "vrf" => "whose routing table its packets are looked up in, which is not compiled",
        _ => "which decides about its packets",
    }
}
