//! The forwarders that `forward` compares.

/// A forwarder; each has an ingress port of its own in the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Plain Linux forwarding, no program.
    Kernel,
    /// The packet path of Underpass over `bpf_fib_lookup`.
    FibHelper,
    /// The agent's program, filled by the agent.
    Underpass,
    /// The packet path of Underpass without any lookup: one static next hop.
    Floor,
}

impl Column {
    /// All columns in the order of reports.
    pub const ALL: [Self; 4] = [Self::Kernel, Self::FibHelper, Self::Underpass, Self::Floor];

    /// Name in reports, and of the generator's device.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::FibHelper => "fib-helper",
            Self::Underpass => "underpass",
            Self::Floor => "floor",
        }
    }

    /// Name of the router's ingress port.
    pub const fn port(self) -> &'static str {
        match self {
            Self::Kernel => "in-kernel",
            Self::FibHelper => "in-fib-helper",
            Self::Underpass => "in-underpass",
            Self::Floor => "in-floor",
        }
    }

    /// The program on its port, when it is one that the benchmark attaches.
    pub const fn rival(self) -> Option<&'static str> {
        match self {
            Self::FibHelper => Some("rival_fib"),
            Self::Floor => Some("rival_floor"),
            Self::Kernel | Self::Underpass => None,
        }
    }

    /// Position in [`Self::ALL`].
    pub const fn number(self) -> u8 {
        self as u8
    }
}
