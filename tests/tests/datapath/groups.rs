//! Large groups through the whole chain: a multipath route of the kernel, the compiler, the maps, the
//! driver; which next hop a flow takes is read off the frames that leave.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;
use underpass::datapath::maps::FibMaps;
use underpass::datapath::{Datapath, PortFacts};
use underpass::fib::compile::{Compiler, resolve};
use underpass::fib::model::CompileConfig;
use underpass::netlink::apply::Part;
use underpass::netlink::dump;
use underpass::netlink::model::{Delta, IfIndex, State, TABLE_MAIN};
use underpass::netlink::requests::Requests;
use underpass::netlink::route_writer::RouteWriter;
use underpass::reconcile::kernel::{Op, OwnRoute, RouteTarget as _};
use underpass::reconcile::xdp::{Environment, UNGUARDED, XdpReconciler};
use underpass_tests::packet::{FrameBuilder, Transport, forwarded};
use underpass_tests::xdp::PassProgram;

use crate::rig::{LEASE, Rig, index, mac};
use crate::wire::Wire;

/// Flows that are sent each time.
const FLOWS: u16 = 8192;
/// Most next hops that fit into a command of `ip` with room to spare.
const LARGEST_OF_IP: usize = 200;

/// A member's MAC, by its number.
fn member_mac(member: usize) -> [u8; 6] {
    let number = u16::try_from(member).expect("few members").to_be_bytes();
    [2, 0, 0, 0x77, number[0], number[1]]
}

fn gateway(member: usize) -> String {
    format!("10.9.{}.{}", member / 200, member % 200 + 10)
}

/// `g0`, whose far end `g1` is in the same namespace and takes XDP frames, with a route to 10.1.0.0/16
/// over as many next hops as there are weights.
fn raise(weights: &[u16]) -> Option<Rig> {
    let rig = Rig::raise()?;
    let mut commands = String::from(
        "link add g0 type veth peer name g1\nlink set g0 up\nlink set g1 up\naddr add 10.9.0.1/16 dev g0\n\
         route add 172.16.0.0/12 via 10.9.0.10\n",
    );
    let mut route = String::from("route add 10.1.0.0/16");
    for (member, weight) in weights.iter().enumerate() {
        let (gateway, mac) = (gateway(member), colons(member_mac(member)));
        // Writing to a String cannot fail.
        let _ = writeln!(commands, "neigh add {gateway} dev g0 lladdr {mac} nud permanent");
        let _ = write!(route, " nexthop via {gateway} weight {weight}");
    }
    rig.router.ip(&commands).expect("devices");
    if weights.len() <= LARGEST_OF_IP {
        // Not in the batch, in which a line has at most 512 words.
        rig.router.run("ip", route.split(' ')).expect("the route");
    } else {
        assert!(weights.iter().all(|weight| *weight == 1), "the agent's own routes have no weights");
        rig.in_router(|| add_own_route(weights.len()));
    }
    let pass = PassProgram::load(&rig.lab).expect("the pass program loads");
    pass.attach(&rig.router, "g1").expect("a veth runs XDP");
    Some(rig)
}

/// The route by the agent's own writer: `ip` has no room for so many next hops.
fn add_own_route(members: usize) {
    let route = OwnRoute {
        table: TABLE_MAIN,
        protocol: 210,
        metric: 200,
        prefix: "10.1.0.0/16".parse().expect("a prefix"),
        next_hops: (0..members).map(|member| gateway(member).parse().expect("an address")).collect(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let results = runtime
        .block_on(async { RouteWriter::new().expect("a netlink socket").execute(&[Op::Add(route)]).await });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The agent's forwarding half in the namespace of the calling thread.
struct Chain {
    datapath: Datapath,
    compiler: Compiler,
    reconciler: XdpReconciler,
    ports: BTreeMap<IfIndex, PortFacts>,
    wire: Wire,
    own: [u8; 6],
    far: [u8; 6],
}

impl Chain {
    fn start(rig: &Rig) -> Self {
        std::fs::write("/proc/sys/net/ipv4/conf/g0/forwarding", "1").expect("a namespace of our own");
        let mut datapath = rig.load();
        let facts = datapath.attach(index("g0"), "g0");
        assert!(facts.attached && facts.tx, "{facts:?}");
        let config = CompileConfig {
            ports: vec!["g0".to_owned()],
            accelerate: vec!["10.1.0.0/16".parse().expect("a prefix")],
            services: Vec::new(),
        };
        let mut chain = Self {
            reconciler: XdpReconciler::adopt(datapath.maps()).expect("readable"),
            compiler: Compiler::new(config),
            ports: [(facts.ifindex, facts)].into(),
            wire: Wire::open("g1"),
            own: mac(&rig.router, "g0"),
            far: mac(&rig.router, "g1"),
            datapath,
        };
        chain.follow(&Delta::full());
        chain.datapath.renew_lease(LEASE).expect("renewed");
        chain.datapath.arm().expect("armed");
        chain
    }

    /// Carries the kernel's state through to the maps.
    fn follow(&mut self, delta: &Delta) {
        let mut requests = Requests::new().expect("netlink");
        let read = dump::read(&mut requests, &Part::ALL.into(), &BTreeMap::new()).expect("readable");
        let state: State = read.dump.state;
        let resolve = |next_hop: &_| resolve(next_hop, &state);
        let environment = Environment { ports: &self.ports, guarded: &UNGUARDED, resolve: &resolve };
        let maps = self.datapath.maps();
        let rows = self.reconciler.refresh_rows(maps, delta, environment);
        let changed = self.compiler.update(&state, delta);
        let rest = self.reconciler.apply(maps, self.compiler.fib(), &changed, environment);
        assert!(rows.failures.is_empty() && rest.failures.is_empty(), "{rows:?} {rest:?}");
        assert!(self.reconciler.totals().synced);
    }

    fn frame(&self, flow: u16) -> FrameBuilder {
        let (high, low) = (flow / 64, flow % 64);
        let host = u8::try_from(low).expect("below 64");
        FrameBuilder::new(self.far, self.own, [172, 16, 0, host].into(), [10, 1, 2, host].into())
            .transport(Transport::Udp { source: 20_000 + high, destination: 53 })
    }

    /// The MAC that a frame is sent to; all its other bytes are checked.
    fn send(&self, frame: &FrameBuilder) -> [u8; 6] {
        let frame = frame.build();
        self.wire.send(&frame);
        let out = self.wire.receive_from(self.own);
        let to: [u8; 6] = out[..6].try_into().expect("a whole frame");
        assert_eq!(out, forwarded(&frame, self.own, to));
        to
    }

    fn flows(&self) -> Vec<[u8; 6]> {
        (0..FLOWS).map(|flow| self.send(&self.frame(flow))).collect()
    }

    /// Buckets by the MAC that they lead to.
    fn buckets(&mut self) -> BTreeMap<[u8; 6], usize> {
        let prefix: IpNet = "10.1.0.0/16".parse().expect("a prefix");
        let contents = self.datapath.maps().contents().expect("readable");
        let target = contents.targets[&contents.prefixes[&(0, prefix)]];
        let mut count = BTreeMap::new();
        for bucket in target.index..=target.index + target.mask {
            *count.entry(contents.next_hops[&contents.buckets[&bucket]].destination_mac).or_insert(0) += 1;
        }
        count
    }
}

fn count(flows: &[[u8; 6]], mac: [u8; 6]) -> usize {
    flows.iter().filter(|to| **to == mac).count()
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn check_shares(chain: &mut Chain, weights: &[u16]) -> Vec<[u8; 6]> {
    let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
    let buckets = chain.buckets();
    let size: usize = buckets.values().sum();
    let flows = chain.flows();
    let mut worst: f64 = 0.0;
    for (member, weight) in weights.iter().enumerate() {
        let mac = member_mac(member);
        // To within one bucket of the kernel's weight.
        let (low, high) =
            (size * usize::from(*weight) / total, (size * usize::from(*weight)).div_ceil(total));
        let has = buckets.get(&mac).copied().unwrap_or(0);
        assert!(
            (low..=high).contains(&has),
            "member {member}: {has} of {size} buckets, weight {weight} of {total}"
        );
        // The flows follow the buckets, as far as chance allows: five times the standard deviation.
        let expected = f64::from(FLOWS) * has as f64 / size as f64;
        let got = count(&flows, mac) as f64;
        assert!(
            (got - expected).abs() <= 5.0 * expected.sqrt(),
            "member {member}: {got} flows, expected {expected:.1}"
        );
        let by_weight = f64::from(FLOWS) * f64::from(*weight) / total as f64;
        worst = worst.max((got / by_weight - 1.0).abs());
    }
    println!(
        "{} members, {size} buckets, {FLOWS} flows: worst deviation {worst:.2} of a share",
        weights.len()
    );
    flows
}

fn neighbour(member: usize) -> Delta {
    let address = gateway(member).parse().expect("an address");
    Delta { neighbours: [(index("g0"), address)].into(), ..Delta::default() }
}

/// Shares by weight, and what moves when a member goes and comes back.
fn lose_and_regain(weights: &[u16], lost: usize) {
    let Some(rig) = raise(weights) else { return };
    rig.in_router(|| {
        let mut chain = Chain::start(&rig);
        let before = check_shares(&mut chain, weights);
        let gone = member_mac(lost);

        rig.router.ip(&format!("neigh del {} dev g0\n", gateway(lost))).expect("deleted");
        chain.follow(&neighbour(lost));
        let without = chain.flows();
        for (flow, (old, new)) in before.iter().zip(&without).enumerate() {
            assert_ne!(*new, gone, "flow {flow} is lost");
            assert!(old == new || *old == gone, "flow {flow} of a live member moved");
        }
        let lost_flows = count(&before, gone);
        assert!(lost_flows > 0);

        rig.router
            .ip(&format!("neigh add {} dev g0 lladdr {} nud permanent\n", gateway(lost), colons(gone)))
            .expect("added");
        chain.follow(&neighbour(lost));
        let again = check_shares(&mut chain, weights);
        let mut moved = 0;
        for (flow, (old, new)) in without.iter().zip(&again).enumerate() {
            assert!(old == new || *new == gone, "flow {flow} moved to a member that was there all the time");
            moved += usize::from(old != new);
        }
        println!("lost: {lost_flows} of {FLOWS} flows moved; regained: {moved} moved");
    });
}

#[test]
fn group_of_128_with_weights() {
    let weights: Vec<u16> = (0..128).map(|member| member % 4 + 1).collect();
    lose_and_regain(&weights, 77);
}

#[test]
fn group_of_256() {
    lose_and_regain(&[1; 256], 200);
}

#[test]
fn packets_and_fragments_of_a_flow_share_their_way() {
    let Some(rig) = raise(&[1; 128]) else { return };
    rig.in_router(|| {
        let chain = Chain::start(&rig);
        let mut ways = std::collections::BTreeSet::new();
        for flow in 0..200 {
            let frame = chain.frame(flow * 7);
            let way = chain.send(&frame);
            for length in [60, 400, 1400] {
                let other = frame.clone().ttl(9).tos(46, 1).identification(flow).packet_length(length);
                assert_eq!(chain.send(&other), way, "flow {flow}, {length} bytes");
            }
            // The first fragment has the ports, the others bytes that could be taken for some.
            let packet = frame.packet_length(600);
            let first = chain.send(&packet.clone().fragment(0, true));
            let host = u8::try_from(flow).expect("below 256");
            let later = packet.transport(Transport::Raw(17)).payload(vec![host; 576]);
            assert_eq!(chain.send(&later.clone().fragment(72, true)), first, "flow {flow}");
            assert_eq!(chain.send(&later.payload(vec![1; 30]).fragment(144, false)), first, "flow {flow}");
            ways.extend([way, first]);
        }
        assert!(ways.len() > 64, "flows spread over {} ways", ways.len());
    });
}
