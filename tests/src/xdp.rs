//! Making a veth end behave like a NIC's link partner.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use aya::EbpfLoader;
use aya::programs::Xdp;
use underpass_common::abi::program::PASS;

use crate::lab::Lab;
use crate::netns::Netns;

/// An XDP program that passes everything, pinned in a lab's bpffs.
///
/// A veth transmits XDP frames only when its peer runs a program: with GRO alone `XDP_TX` counts frames
/// that never arrive. And TCP through an XDP port needs full checksums: `tx off` on the far end.
#[derive(Debug)]
pub struct PassProgram {
    pin: PathBuf,
}

impl PassProgram {
    /// Loads and pins it.
    ///
    /// # Errors
    /// The privilege is missing, or the kernel refuses.
    pub fn load(lab: &Lab) -> Result<Self> {
        let pin = lab.bpffs().join(PASS);
        let mut object =
            EbpfLoader::new().load(underpass::datapath::OBJECT).context("cannot load the eBPF object")?;
        let program = object.program_mut(PASS).ok_or_else(|| anyhow!("the eBPF object lacks {PASS}"))?;
        let program: &mut Xdp = program.try_into().context("the pass program is no XDP program")?;
        program.load().context("cannot load the pass program")?;
        program.pin(&pin).with_context(|| format!("cannot pin the pass program to {}", pin.display()))?;
        Ok(Self { pin })
    }

    /// Where it is pinned.
    pub fn pin(&self) -> &Path {
        &self.pin
    }

    /// Attaches it to `interface` in driver mode, for as long as the interface lives, and has checksums
    /// computed before transmission.
    ///
    /// # Errors
    /// The interface does not exist or cannot run XDP.
    pub fn attach(&self, netns: &Netns, interface: &str) -> Result<()> {
        netns.ip(&format!("link set dev {interface} xdpdrv pinned {}\n", self.pin.display()))?;
        netns.run("ethtool", ["-K", interface, "tx", "off"]).map(drop)
    }
}
