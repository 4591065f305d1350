//! The peer: one of four daemons that does what a plan says.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use underpass_tests::daemon::bird::Version;
use underpass_tests::daemon::{Bird, Frr, GoBgp};
use underpass_tests::lab::Lab;

use super::render::{self, Path, Plan, is_ipv6};
use super::rig::{AGENT, AGENT6, AS, MACHINE};

/// A daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// 1.6.8; over IPv6 its other program, bird6.
    Bird1,
    Bird2,
    Frr,
    GoBgp,
}

#[derive(Debug)]
enum Daemon {
    Bird(Bird),
    Frr(Frr),
    GoBgp(GoBgp),
}

/// A running (or killed) daemon.
#[derive(Debug)]
pub struct Peer {
    make: Make,
    plan: Plan,
    daemon: Daemon,
}

impl Peer {
    /// Starts it; the session may come up from now on.
    pub fn start(lab: &Lab, make: Make, plan: &Plan) -> Result<Self> {
        let daemon = match make {
            Make::Bird1 => {
                let version = if plan.over_ipv6 { Version::V1Ipv6 } else { Version::V1 };
                Daemon::Bird(Bird::start(lab, MACHINE, version, &render::bird1(plan))?)
            }
            Make::Bird2 => Daemon::Bird(Bird::start(lab, MACHINE, Version::V2, &render::bird2(plan))?),
            Make::Frr => {
                further(lab, &[], &render::frr_further(plan))?;
                Daemon::Frr(Frr::start(lab, MACHINE, &render::frr(plan))?)
            }
            Make::GoBgp => Daemon::GoBgp(GoBgp::start(lab, MACHINE, &render::gobgp(plan))?),
        };
        let peer = Self { make, plan: plan.clone(), daemon };
        peer.let_go()?;
        Ok(peer)
    }

    /// Our address as it knows it.
    fn agent(&self) -> IpAddr {
        if self.plan.over_ipv6 { AGENT6.into() } else { AGENT.into() }
    }

    /// `GoBGP` has no paths in its configuration: the session is let up when they are there.
    fn let_go(&self) -> Result<()> {
        let Daemon::GoBgp(gobgp) = &self.daemon else { return Ok(()) };
        gobgp_paths(gobgp, &[], &self.plan.paths)?;
        gobgp.command(&format!("neighbor {} enable", self.agent())).map(drop)
    }

    /// Announces other paths, on the session that there is.
    pub fn announce(&mut self, lab: &Lab, paths: &[Path]) -> Result<()> {
        let before = std::mem::replace(&mut self.plan.paths, paths.to_vec());
        match &self.daemon {
            Daemon::Bird(bird) => bird.reconfigure(&self.bird_config()),
            Daemon::Frr(frr) => {
                let old = Plan { paths: before, ..self.plan.clone() };
                frr_paths(frr, &old, &self.plan)?;
                further(lab, &render::frr_further(&old), &render::frr_further(&self.plan))
            }
            Daemon::GoBgp(gobgp) => gobgp_paths(gobgp, &before, &self.plan.paths),
        }
    }

    fn bird_config(&self) -> String {
        if self.make == Make::Bird1 { render::bird1(&self.plan) } else { render::bird2(&self.plan) }
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.daemon {
            Daemon::Bird(bird) => bird.kill().map(drop),
            Daemon::Frr(frr) => frr.kill_bgpd(),
            Daemon::GoBgp(gobgp) => gobgp.kill(),
        }
    }

    /// Starts it again with other paths, as after a graceful restart.
    pub fn restart(&mut self, paths: &[Path]) -> Result<()> {
        self.plan.paths = paths.to_vec();
        let bird_config = self.bird_config();
        match &mut self.daemon {
            Daemon::Bird(bird) => bird.restart_gracefully(&bird_config)?,
            Daemon::Frr(frr) => frr.restart_bgpd_with(&render::frr(&self.plan))?,
            Daemon::GoBgp(gobgp) => gobgp.restart_gracefully(&render::gobgp(&self.plan))?,
        }
        self.let_go()
    }

    /// Makes it ask us for our routes.
    pub fn ask_for_routes(&self) -> Result<()> {
        let agent = self.agent();
        match &self.daemon {
            Daemon::Bird(bird) => bird.client().command("reload in edge").map(drop),
            Daemon::Frr(frr) => {
                frr.client().command("bgpd", &format!("clear bgp ipv4 unicast {agent} soft in")).map(drop)
            }
            Daemon::GoBgp(gobgp) => gobgp.command(&format!("neighbor {agent} softresetin")).map(drop),
        }
    }

    /// What it says of the session.
    pub fn describe(&self) -> Result<String> {
        let agent = self.agent();
        match &self.daemon {
            Daemon::Bird(bird) => bird.client().command("show protocols all edge"),
            Daemon::Frr(frr) => frr.client().command("bgpd", &format!("show bgp neighbors {agent} json")),
            Daemon::GoBgp(gobgp) => gobgp.command(&format!("neighbor {agent}")),
        }
    }

    /// Whether it takes the session for established.
    pub fn is_established(&self) -> Result<bool> {
        let words = self.describe()?;
        Ok(["BGP state:          Established", "\"bgpState\":\"Established\"", "BGP state = ESTABLISHED"]
            .iter()
            .any(|state| words.contains(state)))
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        let Daemon::Bird(bird) = &self.daemon else { return Ok(String::new()) };
        let path = bird.process().log();
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// Changes FRR's networks by what differs.
fn frr_paths(frr: &Frr, before: &Plan, after: &Plan) -> Result<()> {
    let first = |plan: &Plan| {
        let further = render::frr_further(plan);
        plan.paths.iter().copied().filter(|path| !further.contains(path)).collect::<Vec<_>>()
    };
    let (before, after) = (first(before), first(after));
    let mut commands = vec!["configure terminal".to_owned()];
    for path in after.iter().filter(|path| !before.contains(path)) {
        commands.extend(render::frr_hop(path));
        commands.push("exit".to_owned());
    }
    commands.push(format!("router bgp {AS}"));
    for (ipv6, family) in [(false, "ipv4"), (true, "ipv6")] {
        commands.push(format!("address-family {family} unicast"));
        let of_family = |path: &&Path| is_ipv6(path) == ipv6;
        for path in before.iter().filter(of_family).filter(|path| !after.contains(path)) {
            commands.push(format!("no network {}", path.prefix));
        }
        for path in after.iter().filter(of_family).filter(|path| !before.contains(path)) {
            commands.push(render::frr_network(path));
        }
        commands.push("exit-address-family".to_owned());
    }
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    frr.client().commands("bgpd", &commands).map(drop)
}

/// Changes the kernel routes that FRR redistributes.
fn further(lab: &Lab, before: &[Path], after: &[Path]) -> Result<()> {
    let lines = |what: &str, paths: &[Path], others: &[Path]| {
        let differing = paths.iter().filter(|path| !others.contains(path));
        differing
            .map(|path| format!("route {what} {} via {}\n", path.prefix, path.next_hop))
            .collect::<Vec<_>>()
            .concat()
    };
    let commands = lines("del", before, after) + &lines("add", after, before);
    if commands.is_empty() { Ok(()) } else { lab.netns(MACHINE).ip(&commands) }
}

/// Changes the paths of `GoBGP`. Those of one prefix differ by an identifier, the last number of the next hop.
fn gobgp_paths(gobgp: &GoBgp, before: &[Path], after: &[Path]) -> Result<()> {
    let gone = before.iter().filter(|path| !after.contains(path)).map(|path| ("del", path));
    let new = after.iter().filter(|path| !before.contains(path)).map(|path| ("add", path));
    for (action, path) in gone.chain(new) {
        let family = if is_ipv6(path) { "ipv6" } else { "ipv4" };
        let identifier = path.next_hop.rsplit(['.', ':']).next().unwrap_or_default();
        gobgp.command(&format!(
            "global rib {action} -a {family} {} nexthop {} identifier {identifier}",
            path.prefix, path.next_hop
        ))?;
    }
    Ok(())
}
