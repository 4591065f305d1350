//! What the test needs to know of a random router and its frames, whatever the family.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;
use ipnet::IpNet;
use underpass_tests::twin::{Plan, Shot};

use crate::choice::{Choices, Group};
use crate::frames::Frames;
use crate::frames6::Frames6;
use crate::world::World;
use crate::world6::World6;

/// A random router with its frames.
pub trait Scenario: Choices {
    /// The one of a seed.
    fn random(seed: u64) -> Self;
    /// What both routers are set up with.
    fn plan(&self) -> &Plan;
    /// The next frame.
    fn draw(&mut self, tag: u16) -> Shot;
    /// Puts what the drawn frames need into the plan.
    fn prepare(&mut self);
    /// Changes the router; gives the commands that do the same.
    fn change(&mut self, rng: &mut Rng) -> String;
    /// Commands for what the frames drawn since need.
    fn senders(&mut self) -> String;
    /// What appears in the tables with the change.
    fn marker(&self) -> IpNet;
    /// A source to ask for the marker with.
    const ASKER: IpAddr;
}

/// IPv4.
pub struct V4(World, Frames);

impl Choices for V4 {
    fn groups(&self, destination: IpAddr) -> Vec<Group> {
        self.0.groups(destination)
    }
}

impl Scenario for V4 {
    const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn random(seed: u64) -> Self {
        Self(World::random(seed), Frames::new(seed))
    }

    fn plan(&self) -> &Plan {
        &self.0.plan
    }

    fn draw(&mut self, tag: u16) -> Shot {
        self.1.next(&self.0, tag)
    }

    fn prepare(&mut self) {
        self.0.plan.commands.push_str(&self.1.senders());
    }

    fn change(&mut self, rng: &mut Rng) -> String {
        self.0.change(rng)
    }

    fn senders(&mut self) -> String {
        self.1.senders()
    }

    fn marker(&self) -> IpNet {
        World::marker().into()
    }
}

/// IPv6.
pub struct V6(World6, Frames6);

impl Choices for V6 {
    fn groups(&self, destination: IpAddr) -> Vec<Group> {
        self.0.groups(destination)
    }
}

impl Scenario for V6 {
    const ASKER: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa0, 0, 0, 0, 0, 1));

    fn random(seed: u64) -> Self {
        Self(World6::random(seed), Frames6::new(seed))
    }

    fn plan(&self) -> &Plan {
        &self.0.plan
    }

    fn draw(&mut self, tag: u16) -> Shot {
        self.1.next(&self.0, tag)
    }

    fn prepare(&mut self) {
        self.0.plan.commands6.push_str(&self.1.senders());
    }

    fn change(&mut self, rng: &mut Rng) -> String {
        self.0.change(rng)
    }

    fn senders(&mut self) -> String {
        self.1.senders()
    }

    fn marker(&self) -> IpNet {
        World6::marker().into()
    }
}
