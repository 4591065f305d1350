//! `datapath.bypass`: what the operator accepts that XDP does not ask.

use std::fmt;
use std::str::FromStr;

use super::model::{Owner, Source};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// "all".
    All,
    /// "conntrack": that the kernel does not see packets and so does not track their connections.
    Conntrack,
    /// "nft", "nft:ip filter", "nft:inet filter/forward".
    Nft(Option<(String, String, Option<String>)>),
    /// "iptables", "iptables:filter/FORWARD", "iptables:KUBE-FORWARD", also "ip6tables".
    Iptables {
        /// ip6tables.
        ipv6: bool,
        /// Table; `None`: any.
        table: Option<String>,
        /// Chain; `None`: all.
        chain: Option<String>,
    },
    /// "xfrm".
    Xfrm,
    /// "tc", "tc:eth0".
    Tc(Option<String>),
}

/// The tables that iptables has.
const IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
/// The table families of nftables that packets in transit meet.
const FAMILIES: [&str; 4] = ["ip", "ip6", "inet", "netdev"];

impl Bypass {
    /// Whether rules of a chain, and of those that it jumps to, are named. `iptables:` also means the
    /// tables of iptables-nft.
    pub fn covers_chain(&self, owner: Owner, table: &str, chain: &str) -> bool {
        match self {
            Self::All => true,
            Self::Nft(None) => matches!(owner, Owner::Nft(_)),
            Self::Nft(Some((family, of, only))) => {
                owner_is_nft(owner, family) && of == table && only.as_ref().is_none_or(|only| only == chain)
            }
            Self::Iptables { ipv6, table: of, chain: only } => {
                let (legacy, family) =
                    if *ipv6 { (Owner::Ip6tables, "ip6") } else { (Owner::Iptables, "ip") };
                let written_by_iptables = owner_is_nft(owner, family) && IPTABLES.contains(&table);
                (owner == legacy || written_by_iptables)
                    && of.as_ref().is_none_or(|of| of == table)
                    && only.as_ref().is_none_or(|only| only == chain)
            }
            Self::Conntrack | Self::Xfrm | Self::Tc(_) => false,
        }
    }

    /// Whether rules of traffic control on a port are named.
    pub fn covers_port(&self, port: &str) -> bool {
        match self {
            Self::All | Self::Tc(None) => true,
            Self::Tc(Some(name)) => name == port,
            _ => false,
        }
    }

    /// Whether connection tracking is named.
    pub const fn covers_conntrack(&self) -> bool {
        matches!(self, Self::All | Self::Conntrack)
    }

    /// Whether a whole source is named.
    pub fn covers_source(&self, source: Source) -> bool {
        let all_chains = |of: bool, table: &Option<String>, chain: &Option<String>, ipv6: bool| {
            of == ipv6 && table.is_none() && chain.is_none()
        };
        match (self, source) {
            (Self::All, _)
            | (Self::Nft(None), Source::Nft)
            | (Self::Xfrm, Source::Xfrm)
            | (Self::Tc(None), Source::Tc) => true,
            (Self::Iptables { ipv6, table, chain }, Source::Iptables) => {
                all_chains(*ipv6, table, chain, false)
            }
            (Self::Iptables { ipv6, table, chain }, Source::Ip6tables) => {
                all_chains(*ipv6, table, chain, true)
            }
            _ => false,
        }
    }
}

fn owner_is_nft(owner: Owner, family: &str) -> bool {
    matches!(owner, Owner::Nft(of) if of == family)
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Conntrack => f.write_str("conntrack"),
            Self::Nft(None) => f.write_str("nft"),
            Self::Nft(Some((family, table, None))) => write!(f, "nft:{family} {table}"),
            Self::Nft(Some((family, table, Some(chain)))) => write!(f, "nft:{family} {table}/{chain}"),
            Self::Iptables { ipv6, table, chain } => {
                f.write_str(if *ipv6 { "ip6tables" } else { "iptables" })?;
                match (table, chain) {
                    (None, None) => Ok(()),
                    (Some(table), None) => write!(f, ":{table}"),
                    (None, Some(chain)) => write!(f, ":{chain}"),
                    (Some(table), Some(chain)) => write!(f, ":{table}/{chain}"),
                }
            }
            Self::Xfrm => f.write_str("xfrm"),
            Self::Tc(None) => f.write_str("tc"),
            Self::Tc(Some(port)) => write!(f, "tc:{port}"),
        }
    }
}

/// The text is no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a form that names rules")]
pub struct Unknown;

impl FromStr for Bypass {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        if let Some((kind, rest)) = text.split_once(':') {
            return qualified(kind, rest).ok_or(Unknown);
        }
        match text {
            "all" => Ok(Self::All),
            "conntrack" => Ok(Self::Conntrack),
            "nft" => Ok(Self::Nft(None)),
            "iptables" | "ip6tables" => {
                Ok(Self::Iptables { ipv6: text == "ip6tables", table: None, chain: None })
            }
            "xfrm" => Ok(Self::Xfrm),
            "tc" => Ok(Self::Tc(None)),
            _ => Err(Unknown),
        }
    }
}

fn qualified(kind: &str, rest: &str) -> Option<Bypass> {
    match kind {
        "tc" => plain(rest).map(|port| Bypass::Tc(Some(port))),
        "nft" => {
            let (family, rest) = rest.split_once(' ')?;
            let (table, chain) = match rest.split_once('/') {
                Some((table, chain)) => (table, Some(plain(chain)?)),
                None => (rest, None),
            };
            let family = FAMILIES.contains(&family).then(|| family.to_owned())?;
            Some(Bypass::Nft(Some((family, plain(table)?, chain))))
        }
        "iptables" | "ip6tables" => {
            let known = |table: &str| IPTABLES.contains(&table).then(|| table.to_owned());
            let (table, chain) = match rest.split_once('/') {
                Some((table, chain)) => (Some(known(table)?), Some(plain(chain)?)),
                None => match known(rest) {
                    Some(table) => (Some(table), None),
                    None => (None, Some(plain(rest)?)),
                },
            };
            Some(Bypass::Iptables { ipv6: kind == "ip6tables", table, chain })
        }
        _ => None,
    }
}

fn plain(text: &str) -> Option<String> {
    let fine = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '/' || c == ':');
    fine.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [
            "all",
            "conntrack",
            "nft",
            "nft:ip kube-proxy",
            "nft:inet filter/forward",
            "iptables",
            "ip6tables",
            "iptables:nat",
            "iptables:KUBE-FORWARD",
            "ip6tables:filter/FORWARD",
            "xfrm",
            "tc",
            "tc:eth0",
        ] {
            assert_eq!(text.parse::<Bypass>().map(|bypass| bypass.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "everything",
            "nft:filter",
            "nft:arp filter",
            "nft:ip ",
            "nft:ip a/",
            "tc:",
            "iptables:",
            "iptables:/FORWARD",
            "iptables:fliter/FORWARD",
            "ebtables",
            "xfrm:in",
            "iptables:filter/FOR WARD",
        ] {
            assert_eq!(text.parse::<Bypass>(), Err(Unknown), "{text:?}");
        }
    }

    #[test]
    fn entries_cover_what_they_name() {
        let (nft, legacy) = (Owner::Nft("ip"), Owner::Iptables);
        for (entry, owner, table, chain, expected) in [
            ("all", nft, "x", "y", true),
            ("nft", nft, "x", "y", true),
            ("nft", legacy, "filter", "FORWARD", false),
            ("nft:ip x", nft, "x", "y", true),
            ("nft:ip x/y", nft, "x", "y", true),
            ("nft:ip x/z", nft, "x", "y", false),
            ("nft:inet x", nft, "x", "y", false),
            ("iptables", legacy, "filter", "FORWARD", true),
            ("iptables:FORWARD", legacy, "filter", "FORWARD", true),
            ("iptables:mangle/FORWARD", legacy, "filter", "FORWARD", false),
            ("iptables:filter", nft, "filter", "FORWARD", true),
            ("iptables", nft, "kube-proxy", "services", false),
            ("ip6tables", nft, "filter", "FORWARD", false),
            ("ip6tables:filter/FORWARD", Owner::Nft("ip6"), "filter", "FORWARD", true),
            ("conntrack", nft, "filter", "FORWARD", false),
        ] {
            let bypass: Bypass = entry.parse().expect(entry);
            assert_eq!(
                bypass.covers_chain(owner, table, chain),
                expected,
                "{entry} {owner:?} {table}/{chain}"
            );
        }
    }
}
