//! What the test needs to know of a random router and its frames, whatever the family.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use ipnet::IpNet;
use underpass_tests::twin::{Plan, Shot};

use crate::choice::{Choices, Group};
use crate::frames::Frames;
use crate::world::World;

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
