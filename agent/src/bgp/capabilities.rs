//! What we offer in OPEN, and what two OPENs agree on.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::notification::{self, Notification};
use super::wire::{self, AddPath, Capabilities, GracefulRestart, Open};
use crate::config::model::{Bgp, Peer};
use crate::netlink::model::Family;

/// Restart time that we offer. We announce nothing, so it only tells the peer that a second connection from us
/// may replace one that it still takes for alive (RFC 4724 §5).
const RESTART_TIME: u16 = 120;

/// What a session needs of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Peer's address.
    pub peer: IpAddr,
    /// Our AS.
    pub local_as: u32,
    /// Peer's AS.
    pub remote_as: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time offered, in seconds.
    pub hold_time: u16,
    /// Least hold time accepted, in seconds; `None`: 0, or at least 3 (RFC 4271 §4.2).
    pub min_hold_time: Option<u16>,
    /// How long the peer may take nothing from us (RFC 9687); at least twice the hold time holds.
    pub send_hold_time: Duration,
    /// Families offered.
    pub families: Vec<Family>,
    /// Receive several paths per prefix.
    pub add_path: bool,
    /// Receive extended messages (RFC 8654).
    pub extended_messages: bool,
    /// Take IPv6 next hops for IPv4 prefixes (RFC 8950).
    pub extended_next_hop: bool,
    /// Graceful-restart helper.
    pub graceful_restart: bool,
    /// Longest time that paths of a restarting peer are kept.
    pub stale_time: Duration,
    /// Never dial.
    pub passive: bool,
    /// What to look at when the peer does not answer at all.
    pub silence: &'static str,
    /// First pause before dialling again.
    pub connect_retry: Duration,
    /// Longest pause before dialling again.
    pub connect_retry_max: Duration,
}

impl Settings {
    /// For one configured peer.
    pub fn new(bgp: &Bgp, peer: &Peer) -> Self {
        Self {
            peer: peer.address,
            local_as: bgp.local_as_of(peer),
            remote_as: peer.remote_as,
            router_id: bgp.router_id_of(peer),
            hold_time: seconds(peer.hold_time),
            min_hold_time: peer.min_hold_time.map(seconds),
            send_hold_time: peer.send_hold_time,
            families: peer.families.clone(),
            add_path: peer.add_path,
            extended_messages: peer.extended_messages,
            extended_next_hop: peer.extended_next_hop,
            graceful_restart: peer.graceful_restart,
            stale_time: peer.stale_time,
            passive: peer.passive,
            silence: silence(peer),
            connect_retry: peer.connect_retry,
            connect_retry_max: peer.connect_retry_max,
        }
    }

    /// Peer's AS differs from ours.
    pub const fn external(&self) -> bool {
        self.local_as != self.remote_as
    }

    /// The longest message that the peer may send (RFC 8654 §4: what counts is that we offered it).
    pub const fn longest_message(&self) -> usize {
        if self.extended_messages { wire::MAX_EXTENDED } else { wire::MAX_MESSAGE }
    }

    /// Our OPEN.
    pub fn open(&self) -> Open {
        Open {
            autonomous_system: self.local_as,
            hold_time: self.hold_time,
            router_id: self.router_id,
            capabilities: Capabilities {
                families: Some(self.families.clone()),
                four_octet_as: true,
                add_path: if self.add_path {
                    let receive = AddPath { receive: true, send: false };
                    self.families.iter().map(|family| (*family, receive)).collect()
                } else {
                    Vec::new()
                },
                extended_messages: self.extended_messages,
                extended_next_hop: self.extended_next_hop,
                graceful_restart: self.graceful_restart.then(|| GracefulRestart {
                    restarted: false,
                    notification: true,
                    restart_time: RESTART_TIME,
                    families: self.families.iter().map(|family| (*family, false)).collect(),
                }),
                route_refresh: true,
                enhanced_refresh: true,
            },
        }
    }
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Peer's BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time; zero: no keepalives, no hold timer.
    pub hold_time: Duration,
    /// AS numbers have four octets.
    pub four_octet_as: bool,
    /// Families, in our order.
    pub families: Vec<Family>,
    /// Families in which prefixes carry a path identifier.
    pub add_path: Vec<Family>,
    /// Both sides take messages of up to 65535 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 prefixes may have IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer's graceful restart, if we are to help it.
    pub graceful_restart: Option<GracefulRestart>,
    /// The peer sends its routes again when asked.
    pub route_refresh: bool,
    /// It marks begin and end of that (RFC 7313).
    pub enhanced_refresh: bool,
}

impl Negotiated {
    /// What both sides can do, by names for operators.
    pub fn names(&self) -> Vec<&'static str> {
        let family = |family| match family {
            Family::Ipv4 => "ipv4-unicast",
            Family::Ipv6 => "ipv6-unicast",
        };
        let several = |family| match family {
            Family::Ipv4 => "add-path-ipv4-unicast",
            Family::Ipv6 => "add-path-ipv6-unicast",
        };
        let flags = [
            (self.four_octet_as, "four-octet-as"),
            (self.route_refresh, "route-refresh"),
            (self.enhanced_refresh, "enhanced-route-refresh"),
            (self.graceful_restart.is_some(), "graceful-restart"),
            (self.notification_is_restart(), "graceful-restart-notification"),
            (self.extended_messages, "extended-messages"),
            (self.extended_next_hop, "extended-next-hop"),
        ];
        let families = self.families.iter().copied().map(family);
        let add_path = self.add_path.iter().copied().map(several);
        let flags = flags.into_iter().filter(|(agreed, _)| *agreed).map(|(_, name)| name);
        families.chain(add_path).chain(flags).collect()
    }

    /// Families for which the peer has preserved its forwarding state (RFC 4724 §3, F bit).
    pub fn forwarding_preserved(&self) -> Vec<Family> {
        self.restart_families().filter(|(_, preserved)| *preserved).map(|(family, _)| family).collect()
    }

    /// A NOTIFICATION other than a hard reset is a restart as well (RFC 8538 §4).
    pub fn notification_is_restart(&self) -> bool {
        self.graceful_restart.as_ref().is_some_and(|restart| restart.notification)
    }

    /// Families to keep when the connection breaks, each with how long (RFC 4724 §4.2).
    pub fn retain(&self, stale_time: Duration) -> Vec<(Family, Duration)> {
        let offered = self.graceful_restart.as_ref().map_or(0, |restart| restart.restart_time);
        let time = Duration::from_secs(offered.into()).min(stale_time);
        if time.is_zero() {
            return Vec::new();
        }
        self.restart_families().map(|(family, _)| (family, time)).collect()
    }

    fn restart_families(&self) -> impl Iterator<Item = (Family, bool)> {
        let listed = self.graceful_restart.as_ref().map_or(&[][..], |restart| &restart.families);
        listed.iter().copied().filter(|(family, _)| self.families.contains(family))
    }
}

/// Checks the peer's OPEN against the configuration (RFC 4271 §6.2) and settles what the session uses.
///
/// # Errors
/// The NOTIFICATION to answer with.
pub fn negotiate(settings: &Settings, open: &Open) -> Result<Negotiated, Notification> {
    check_identity(settings, open)?;
    if matches!(open.hold_time, 1 | 2) {
        return Err(Notification::new(
            notification::OPEN,
            notification::UNACCEPTABLE_HOLD_TIME,
            format!("the peer asks for a hold time of {} s; it is 0 or at least 3", open.hold_time),
        ));
    }
    if let Some(least) = settings.min_hold_time.filter(|least| open.hold_time < *least) {
        return Err(Notification::new(
            notification::OPEN,
            notification::UNACCEPTABLE_HOLD_TIME,
            format!("the peer asks for a hold time of {} s, min_hold_time is {least} s", open.hold_time),
        ));
    }
    let peer = &open.capabilities;
    let families: Vec<Family> = settings
        .families
        .iter()
        .copied()
        // RFC 4760 §8: IPv4 unicast needs no capability; a peer that lists families means the list.
        .filter(|family| peer.families.as_ref().map_or(*family == Family::Ipv4, |list| list.contains(family)))
        .collect();
    if families.is_empty() {
        return Err(no_common_family(settings));
    }
    let sends = |family: &Family| peer.add_path.iter().any(|(other, way)| other == family && way.send);
    let add_path =
        if settings.add_path { families.iter().copied().filter(sends).collect() } else { Vec::new() };
    Ok(Negotiated {
        router_id: open.router_id,
        hold_time: Duration::from_secs(settings.hold_time.min(open.hold_time).into()),
        four_octet_as: peer.four_octet_as,
        families,
        add_path,
        extended_messages: settings.extended_messages && peer.extended_messages,
        extended_next_hop: settings.extended_next_hop && peer.extended_next_hop,
        graceful_restart: peer.graceful_restart.clone().filter(|_| settings.graceful_restart),
        route_refresh: peer.route_refresh,
        enhanced_refresh: peer.route_refresh && peer.enhanced_refresh,
    })
}

/// Packets without the right signature or TTL are dropped without a word.
const fn silence(peer: &Peer) -> &'static str {
    if peer.password.is_some() {
        "no answer: is the peer up, and has it the same password?"
    } else if peer.ttl_security.is_some() {
        "no answer: is the peer up, at most ttl_security hops away, and has it GTSM too?"
    } else {
        "no answer: is the peer up and reachable?"
    }
}

/// The configuration has whole seconds that fit.
fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}

fn check_identity(settings: &Settings, open: &Open) -> Result<(), Notification> {
    if open.autonomous_system != settings.remote_as {
        return Err(Notification::new(
            notification::OPEN,
            notification::BAD_PEER_AS,
            format!(
                "the peer says it is AS {}, the configuration says AS {}",
                open.autonomous_system, settings.remote_as
            ),
        ));
    }
    // RFC 6286 §2.2: the identifier is unique inside of an AS only.
    let ours = !settings.external() && open.router_id == settings.router_id;
    if open.router_id.is_unspecified() || ours {
        let detail = if ours { "it is our own" } else { "it is zero" };
        return Err(Notification::new(
            notification::OPEN,
            notification::BAD_IDENTIFIER,
            format!("BGP identifier {}: {detail}", open.router_id),
        ));
    }
    Ok(())
}

/// RFC 5492 §5: the data field lists the capabilities that were missed.
fn no_common_family(settings: &Settings) -> Notification {
    let wanted = settings.families.iter().flat_map(|family| match family {
        Family::Ipv4 => [1, 4, 0, 1, 0, 1],
        Family::Ipv6 => [1, 4, 0, 2, 0, 1],
    });
    Notification::new(
        notification::OPEN,
        notification::UNSUPPORTED_CAPABILITY,
        "the peer offers none of the configured families",
    )
    .with_data(wanted.collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests;
