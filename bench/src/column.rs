//! The forwarders that are compared.

/// A forwarder; each has an ingress port of its own in the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Column {
    /// Plain Linux forwarding, no program.
    Kernel,
    /// The packet path of Underpass over `bpf_fib_lookup`.
    FibHelper,
    /// The packet path of Underpass over `BPF_MAP_TYPE_LPM_TRIE`, filled by the benchmark.
    LpmTrie,
    /// The agent's program, filled by the agent.
    Underpass,
    /// The same on a port with `rp_filter` 1, where every packet's source is looked up as well.
    Strict,
    /// The packet path of Underpass without any lookup: one static next hop.
    Floor,
}

impl Column {
    /// All columns in the order of reports.
    pub const ALL: [Self; 6] =
        [Self::Kernel, Self::FibHelper, Self::LpmTrie, Self::Underpass, Self::Strict, Self::Floor];

    /// Name in reports, and of the generator's device.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::FibHelper => "fib-helper",
            Self::LpmTrie => "lpm-trie",
            Self::Underpass => "underpass",
            Self::Strict => "strict",
            Self::Floor => "floor",
        }
    }

    /// Name of the router's ingress port.
    pub fn port(self) -> String {
        format!("in-{}", self.label())
    }

    /// The program on its port, when it is one that the benchmark attaches.
    pub const fn rival(self) -> Option<&'static str> {
        match self {
            Self::FibHelper => Some("rival_fib"),
            Self::LpmTrie => Some("rival_lpm"),
            Self::Floor => Some("rival_floor"),
            Self::Kernel | Self::Underpass | Self::Strict => None,
        }
    }

    /// Whether the kernel itself forwards.
    pub const fn is_kernel(self) -> bool {
        matches!(self, Self::Kernel)
    }

    /// Whether the agent forwards.
    pub const fn is_agent(self) -> bool {
        matches!(self, Self::Underpass | Self::Strict)
    }

    /// Position in [`Self::ALL`].
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// [`Self::number`] as an index.
    pub fn index(self) -> usize {
        usize::from(self.number())
    }
}
