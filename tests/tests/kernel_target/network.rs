//! A nameless network namespace with one uplink, its routes as `ip` shows them, and lookups.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;
use underpass::netlink::model::{Family, Route, RouteBody, RouteNextHop, RouteType, State};

/// Links and addresses: gateways are in 10.0.0.0/16 and `fd00::/64`, their hosts need not exist.
const SET_UP: &str = "\
link set lo up
link add uplink type veth peer name far
link set uplink up
link set far up
address add 10.0.0.1/16 dev uplink
address add fd00::1/64 dev uplink nodad
";

/// Runs `work` on a thread with a network namespace of its own, which goes when the thread does,
/// inside a tokio runtime of one thread. Returns without running it, and says so, when the privilege
/// is missing; under `CI=true` that is a failure.
pub fn in_network(work: impl AsyncFnOnce() + Send + 'static) {
    let inside = thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            assert!(std::env::var("CI").is_err(), "cannot make a network namespace: {error}");
            println!("SKIPPED: cannot make a network namespace: {error}; run as root");
            return;
        }
        ip(SET_UP);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    });
    if let Err(panic) = inside.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs lines of `ip` commands in this thread's namespace.
pub fn ip(commands: &str) {
    for line in commands.lines().filter(|line| !line.trim().is_empty()) {
        let output = Command::new("ip").args(line.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// All routes of a table in this thread's namespace, read by `ip` and not by the code under test.
pub fn read_back(table: u32) -> State {
    let mut state = State::default();
    for family in ["-4", "-6"] {
        let table = table.to_string();
        let output =
            Command::new("ip").args([family, "-N", "-j", "-d", "route", "show", "table", &table]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        if let Ok(Value::Array(list)) = serde_json::from_str(&text) {
            for value in list {
                let route = parse_route(&value, table.parse().unwrap(), family);
                state.routes.push(route);
            }
        }
    }
    state
}

fn parse_route(value: &Value, table: u32, family: &str) -> Route {
    let number = |name: &str| value[name].as_u64().map_or(0, |n| u32::try_from(n).unwrap());
    let text = |name: &str| value[name].as_str().unwrap_or("0").to_owned();
    let destination = text("dst");
    let prefix = match (destination.as_str(), family) {
        ("default", "-4") => "0.0.0.0/0".parse().unwrap(),
        ("default", _) => "::/0".parse().unwrap(),
        (other, _) => {
            other.parse().unwrap_or_else(|_| IpNet::from(other.parse::<IpAddr>().expect("a destination")))
        }
    };
    let next_hops: Vec<RouteNextHop> = match value["nexthops"].as_array() {
        Some(list) => list.iter().map(parse_next_hop).collect(),
        None if value["dev"].is_string() => vec![parse_next_hop(value)],
        None => vec![],
    };
    Route {
        table,
        prefix,
        tos: 0,
        metric: number("metric"),
        body: Arc::new(RouteBody {
            protocol: text("protocol").parse().unwrap(),
            kind: if text("type") == "1" { RouteType::Unicast } else { RouteType::Blackhole },
            scope: text("scope").parse().unwrap(),
            next_hops,
            nexthop_id: None,
            mtu: None,
            preferred_source: value["prefsrc"].as_str().map(|text| text.parse().unwrap()),
            source_prefix: None,
            unsupported: false,
        }),
    }
}

fn parse_next_hop(value: &Value) -> RouteNextHop {
    let device = value["dev"].as_str().unwrap();
    let flag =
        |name: &str| value["flags"].as_array().is_some_and(|list| list.iter().any(|flag| flag == name));
    RouteNextHop {
        ifindex: nix::net::if_::if_nametoindex(device).unwrap(),
        gateway: value["gateway"].as_str().map(|text| text.parse().unwrap()),
        weight: u16::try_from(value["weight"].as_u64().unwrap_or(1)).unwrap(),
        on_link: flag("onlink"),
        dead: flag("dead"),
        link_down: flag("linkdown"),
        encapsulated: false,
    }
}

/// Asks the kernel for the way to an address, again and again.
pub struct Lookup {
    socket: Socket,
    request: Vec<u8>,
}

impl Lookup {
    /// Of an address, in this thread's namespace.
    pub fn of(address: IpAddr) -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
        socket.bind_auto().unwrap();
        socket.connect(&SocketAddr::new(0, 0)).unwrap();
        let mut message = RouteMessage::default();
        (message.header.address_family, message.header.destination_prefix_length) = match Family::of(address)
        {
            Family::Ipv4 => (AddressFamily::Inet, 32),
            Family::Ipv6 => (AddressFamily::Inet6, 128),
        };
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetRoute(message));
        message.header.flags = NLM_F_REQUEST;
        message.finalize();
        let mut request = vec![0; message.buffer_len()];
        message.serialize(&mut request);
        Self { socket, request }
    }

    /// The gateway that the kernel answers with, or its error.
    pub fn gateway(&self) -> Result<IpAddr, String> {
        self.socket.send(&self.request, 0).unwrap();
        let (answer, _) = self.socket.recv_from_full().unwrap();
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).unwrap();
        let route = match answer.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => route,
            NetlinkPayload::Error(error) => return Err(error.to_string()),
            other => return Err(format!("{other:?}")),
        };
        let gateway = route.attributes.into_iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::from(v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::from(v6)),
            _ => None,
        });
        gateway.ok_or_else(|| "no gateway".to_owned())
    }
}
