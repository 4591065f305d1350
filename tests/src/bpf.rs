//! A private copy of the XDP programs and maps, run packet by packet with `BPF_PROG_TEST_RUN`.
//!
//! Nothing is pinned and nothing attached: the copy is gone with the value.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, DevMap, PerCpuArray};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use underpass::datapath::flat::FlatTable;
use underpass::datapath::prefix_table;
use underpass::sys::mapping::Mapping;
use underpass_common::abi::{
    COUNTER_ENTRIES, Control, Counter, PROBE_HEADER_LEN, PROBE_MAGIC, ProbeHeader, REASON_SLOTS, map,
    port_slot, program,
};
use underpass_common::fib::{TargetId, VIEW_BITS, ViewId, lpm_key4, lpm_key6};
use underpass_common::nexthop::{NextHop, Port, Target};
use underpass_common::own::own_bits;
use underpass_common::reason::Reason;

/// Programs of the agent's object.
pub const PROGRAMS: [&str; 5] =
    [program::FORWARD, program::PROBE, program::FORWARD_LPM, program::PROBE_LPM, program::PASS];

/// Index of the loopback device: what a test run has as its ingress port.
pub const INGRESS_IFINDEX: u32 = 1;

/// Verdicts of XDP programs (`enum xdp_action`).
pub mod verdict {
    /// Up the stack.
    pub const PASS: u32 = 2;
    /// Back out of the port it came from.
    pub const TX: u32 = 3;
    /// Out of another port.
    pub const REDIRECT: u32 = 4;
}

/// What a program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// One of [`verdict`].
    pub verdict: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// The programs and maps of one object.
pub struct DataPlane {
    ebpf: Ebpf,
    table: FlatTable<Mapping>,
}

impl DataPlane {
    /// Loads the agent's object and verifies all its programs.
    ///
    /// # Errors
    /// The kernel refuses; the verifier's log is in the error.
    pub fn load() -> Result<Self> {
        Self::load_object(underpass::datapath::OBJECT, &PROGRAMS)
    }

    /// Loads another object with the same maps and verifies the named programs.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_object(object: &[u8], programs: &[&str]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("cannot load the eBPF object")?;
        for name in programs {
            let program: &mut Xdp =
                ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
            load(program).with_context(|| format!("the verifier refuses {name}"))?;
        }
        let table = FlatTable::new(prefix_table::words(&ebpf).context("cannot map the prefix table")?);
        Ok(Self { ebpf, table })
    }

    /// As [`Self::load`] for a test. Without the privilege for it, says so and gives `None`.
    ///
    /// # Panics
    /// When loading fails for another reason, or at all under `CI=true`.
    pub fn for_test() -> Option<Self> {
        let may_skip = !nix::unistd::Uid::effective().is_root();
        match Self::load() {
            Ok(loaded) => Some(loaded),
            Err(error) if may_skip && std::env::var_os("CI").is_none_or(|ci| ci != "true") => {
                println!(
                    "skipped: loading XDP programs needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: {error:#}"
                );
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Writes the control words.
    pub fn set_control(&mut self, control: Control) {
        self.set(map::CONTROL, 0, control);
    }

    /// Writes a port's row.
    pub fn set_port(&mut self, port: Port) {
        self.set(map::PORTS, port_slot(port.ifindex), port);
    }

    /// Opens a port's slot of the redirect map.
    pub fn open_port(&mut self, ifindex: u32) {
        let map = self.ebpf.map_mut(map::TX_PORTS).expect("in the object");
        let mut devices = DevMap::try_from(map).expect("a device map");
        devices.set(port_slot(ifindex), ifindex, None, 0).expect("the device exists");
    }

    /// Writes a target.
    pub fn set_target(&mut self, id: TargetId, target: Target) {
        self.set(map::TARGETS, id, target);
    }

    /// Writes a bucket.
    pub fn set_bucket(&mut self, index: u32, next_hop: u32) {
        self.set(map::BUCKETS, index, next_hop);
    }

    /// Writes a next-hop row.
    pub fn set_next_hop(&mut self, index: u32, row: NextHop) {
        self.set(map::NEXT_HOPS, index, row);
    }

    /// Enters an address into the filter of own addresses.
    pub fn add_own(&mut self, address: Ipv4Addr) {
        for (word, bit) in own_bits(address.octets()) {
            let map = self.ebpf.map(map::OWN).expect("in the object");
            let before = Array::<_, u64>::try_from(map).expect("an array").get(&word, 0).expect("in range");
            self.set(map::OWN, word, before | bit);
        }
    }

    /// Inserts or replaces a prefix, in the tables of all engines.
    pub fn set_prefix(&mut self, view: ViewId, prefix: IpNet, target: TargetId) {
        self.table.set((view, prefix), Some(target)).expect("the flat table has room");
        let length = VIEW_BITS + u32::from(prefix.prefix_len());
        match prefix.addr() {
            IpAddr::V4(address) => {
                self.insert(map::FIB4, &Key::new(length, lpm_key4(view, address.octets())), target);
            }
            IpAddr::V6(address) => {
                self.insert(map::FIB6, &Key::new(length, lpm_key6(view, address.octets())), target);
            }
        }
    }

    fn insert<K: Pod>(&mut self, name: &str, key: &Key<K>, target: TargetId) {
        let map = self.ebpf.map_mut(name).expect("in the object");
        let mut trie = LpmTrie::<_, K, TargetId>::try_from(map).expect("a trie");
        trie.insert(key, target, 0).expect("the trie has room");
    }

    /// Runs the forwarding program on a frame from [`INGRESS_IFINDEX`].
    pub fn forward(&self, frame: &[u8]) -> Run {
        self.run(program::FORWARD, frame)
    }

    /// Asks the probe about a frame from a port. Gives its answer, and what became of the frame.
    pub fn probe(&self, ingress_ifindex: u32, frame: &[u8]) -> (ProbeHeader, Run) {
        let question = ProbeHeader { magic: PROBE_MAGIC, ingress_ifindex, ..ProbeHeader::default() };
        let run = self.run(program::PROBE, &[&header_bytes(&question)[..], frame].concat());
        let (header, frame) = run.frame.split_first_chunk().expect("the header comes back");
        (header_from(header), Run { verdict: run.verdict, frame: frame.to_vec() })
    }

    /// Runs a program of the object once on bytes.
    pub fn run(&self, name: &str, data: &[u8]) -> Run {
        let mut out = vec![0; data.len() + 512];
        let options =
            TestRunOptions { data_in: Some(data), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = self.program(name).test_run(options).expect("test run");
        out.truncate(result.data_size_out as usize);
        Run { verdict: result.return_value, frame: out }
    }

    /// Runs a program `repeat` times on the same memory and gives the mean time of one run.
    pub fn time(&self, name: &str, data: &[u8], repeat: u32) -> std::time::Duration {
        let options = TestRunOptions { data_in: Some(data), repeat, ..TestRunOptions::default() };
        self.program(name).test_run(options).expect("test run").duration
    }

    /// Bytes of a program after the verifier's rewriting; eight are one instruction.
    pub fn translated_size(&self, name: &str) -> u32 {
        let info = self.program(name).info().expect("program info");
        info.size_translated().expect("the kernel tells")
    }

    /// All counters that are not zero, summed over the CPUs, by port number and reason.
    pub fn counters(&self) -> BTreeMap<(u32, Reason), Counter> {
        let map = self.ebpf.map(map::COUNTERS).expect("in the object");
        let counters = PerCpuArray::<_, Counter>::try_from(map).expect("a per-CPU array");
        let mut all = BTreeMap::new();
        for index in 0..COUNTER_ENTRIES {
            let mut sum = Counter::default();
            for value in counters.get(&index, 0).expect("in range").iter() {
                sum.packets += value.packets;
                sum.bytes += value.bytes;
            }
            if sum != Counter::default() {
                let reason = Reason::from_number(index % REASON_SLOTS).expect("only reasons are counted");
                all.insert((index / REASON_SLOTS, reason), sum);
            }
        }
        all
    }

    fn program(&self, name: &str) -> &Xdp {
        self.ebpf.program(name).expect("in the object").try_into().expect("an XDP program")
    }

    fn set<T: Pod>(&mut self, name: &str, index: u32, value: T) {
        let map = self.ebpf.map_mut(name).expect("in the object");
        let mut array = Array::<_, T>::try_from(map).expect("an array of this type");
        array.set(index, value, 0).expect("in range");
    }
}

/// Loads a program, again when a signal has interrupted the verifier (`EAGAIN`), as libbpf does.
fn load(program: &mut Xdp) -> Result<(), ProgramError> {
    for _ in 0..4 {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
    program.load()
}

/// Moves the calling thread into a new network namespace with a pair of veth devices and gives their
/// indexes. The namespace goes with the thread and what it holds.
///
/// # Errors
/// No privilege for namespaces, or `ip` fails.
pub fn enter_namespace_with_ports() -> Result<[u32; 2]> {
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace needs CAP_SYS_ADMIN")?;
    let output = Command::new("ip")
        .args(["link", "add", "port1", "type", "veth", "peer", "name", "port2"])
        .output()
        .context("cannot run `ip`")?;
    ensure!(output.status.success(), "ip link add: {}", String::from_utf8_lossy(&output.stderr));
    Ok([nix::net::if_::if_nametoindex("port1")?, nix::net::if_::if_nametoindex("port2")?])
}

/// The header as it goes into the packet.
fn header_bytes(header: &ProbeHeader) -> [u8; PROBE_HEADER_LEN] {
    let mut bytes = [0; PROBE_HEADER_LEN];
    bytes[..8].copy_from_slice(&header.magic);
    bytes[8..12].copy_from_slice(&header.ingress_ifindex.to_ne_bytes());
    bytes
}

/// The header as it comes back. Spelled out by offset, which pins the layout.
fn header_from(bytes: &[u8; PROBE_HEADER_LEN]) -> ProbeHeader {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    ProbeHeader {
        magic: bytes[..8].try_into().expect("8 bytes"),
        ingress_ifindex: word(8),
        answered: word(12),
        reason: word(16),
        target: word(20),
        source_target: word(24),
        next_hop: word(28),
        egress_ifindex: word(32),
        flow_hash: word(36),
        jiffies: u64::from_ne_bytes(bytes[40..48].try_into().expect("8 bytes")),
        destination_mac: bytes[48..54].try_into().expect("6 bytes"),
        source_mac: bytes[54..60].try_into().expect("6 bytes"),
        reserved: word(60),
    }
}
