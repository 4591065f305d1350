//! Next hops over other routes.

use std::collections::BTreeSet;

use super::super::underlay::Way;
use super::*;

/// Loopbacks of routers, which are announced as well.
const LOOPBACKS: &str = "10.0.32.0/20";

/// A reflector that may announce loopbacks, and pods behind them.
fn lab() -> Lab {
    let mut config = config(&[1]);
    let range = |text: &str, min, max| PrefixRange { prefix: prefix(text), min, max };
    config.import.prefixes.push(range(LOOPBACKS, 20, 32));
    let mut lab = Lab::new(config);
    lab.handle(RibEvent::PeerUp(session(1)));
    lab
}

impl Lab {
    fn ways(&mut self, ways: &[(&str, Way)]) -> Vec<String> {
        let ways = ways.iter().map(|(hop, way)| (hop.parse().unwrap(), way.clone()));
        names(&self.rib.set_ways(ways))
    }
}

fn via(length: u8, gateway: &str) -> Way {
    Way::Via { length, gateways: [gateway.parse().unwrap()].into() }
}

#[test]
fn a_next_hop_over_a_route_of_the_kernel() {
    let mut lab = lab();
    lab.announce(1, 0, &[A], "10.0.33.1");
    assert_eq!(lab.rib.take_unknown(), ["10.0.33.1".parse::<IpAddr>().unwrap()].into());
    assert_eq!(lab.rib.take_unknown(), BTreeSet::new(), "asked for once");
    assert_eq!(lab.next_hops(A), ["10.0.33.1"], "as announced until the kernel was asked");
    assert_eq!(lab.ways(&[("10.0.33.1", via(24, "10.0.0.2"))]), [A]);
    assert_eq!(lab.next_hops(A), ["10.0.0.2"]);
    assert_eq!(lab.rib.announced_next_hops(&prefix(A)), Some(&["10.0.33.1".parse().unwrap()][..]));
    assert_eq!(lab.ways(&[("10.0.33.1", via(24, "10.0.0.3"))]), [A], "the kernel's route moved");
    assert_eq!(lab.next_hops(A), ["10.0.0.3"]);
    assert_eq!(lab.ways(&[("10.0.33.1", Way::OnLink)]), [A]);
    assert_eq!(
        (lab.next_hops(A), lab.rib.announced_next_hops(&prefix(A))),
        (vec!["10.0.33.1".to_owned()], None)
    );
}

#[test]
fn a_next_hop_over_a_learned_route_follows_it() {
    let mut lab = lab();
    lab.announce(1, 0, &["10.0.33.0/24"], "10.0.0.2");
    lab.announce(1, 0, &[A], "10.0.33.1");
    lab.ways(&[("10.0.0.2", Way::OnLink), ("10.0.33.1", Way::Nowhere)]);
    assert_eq!(lab.next_hops(A), ["10.0.0.2"]);

    assert_eq!(lab.announce(1, 0, &["10.0.33.0/24"], "10.0.0.3"), ["10.0.33.0/24", A]);
    assert_eq!(lab.next_hops(A), ["10.0.0.3"]);
    assert_eq!(lab.announce(1, 0, &["10.0.33.0/30"], "10.0.0.4"), ["10.0.33.0/30", A], "a longer one");
    assert_eq!(lab.next_hops(A), ["10.0.0.4"]);
    lab.ways(&[("10.0.33.1", via(30, "10.0.0.5"))]);
    assert_eq!(lab.next_hops(A), ["10.0.0.5"], "of equal lengths the kernel's");
    lab.ways(&[("10.0.33.1", via(29, "10.0.0.5"))]);
    assert_eq!(lab.next_hops(A), ["10.0.0.4"], "a shorter one does not hide it");
}

#[test]
fn two_learned_routes_in_a_row_and_several_exits() {
    let mut lab = lab();
    lab.announce(1, 1, &["10.0.34.0/24"], "10.0.0.2");
    lab.announce(1, 2, &["10.0.34.0/24"], "10.0.0.3");
    lab.announce(1, 0, &["10.0.33.0/24"], "10.0.34.1");
    lab.announce(1, 0, &[A], "10.0.33.1");
    lab.ways(&[("10.0.34.1", Way::Nowhere), ("10.0.33.1", Way::Nowhere)]);
    assert_eq!(lab.next_hops(A), ["10.0.0.2", "10.0.0.3"]);
    lab.withdraw(1, 2, "10.0.34.0/24");
    assert_eq!(lab.next_hops(A), ["10.0.0.2"], "through both");
}

#[test]
fn routes_that_lead_back_to_themselves_lead_nowhere() {
    let mut lab = lab();
    lab.announce(1, 0, &["10.0.33.0/24"], "10.0.0.2");
    lab.announce(1, 0, &["10.0.34.0/24"], "10.0.33.1");
    lab.announce(1, 0, &[A], "10.0.34.1");
    lab.ways(&[("10.0.33.1", Way::Nowhere), ("10.0.34.1", Way::Nowhere)]);
    assert_eq!(lab.next_hops(A), ["10.0.0.2"]);
    // Each leads over the other now. Nothing that was true before may keep them alive.
    lab.announce(1, 0, &["10.0.33.0/24"], "10.0.34.7");
    lab.ways(&[("10.0.34.7", Way::Nowhere)]);
    assert_eq!(lab.next_hops(A), [""; 0]);
    let lost: Vec<String> = lab.rib.unreachable().keys().map(ToString::to_string).collect();
    assert_eq!(lost, ["10.0.33.1", "10.0.34.1", "10.0.34.7"]);
    lab.announce(1, 0, &["10.0.33.0/24"], "10.0.0.3");
    assert_eq!(lab.next_hops(A), ["10.0.0.3"], "and back");
}

#[test]
fn a_path_that_leads_nowhere_gives_way_to_one_that_leads_somewhere() {
    let mut lab = lab();
    let better = Arc::new(Attributes { local_pref: Some(500), ..(*attributes("10.0.33.1")).clone() });
    let list = vec![Nlri { prefix: prefix(A), path_id: 1 }];
    let event = RibEvent::Update { peer: peer(1), withdrawn: vec![], announced: Some((better, list)) };
    lab.handle(event);
    lab.announce(1, 2, &[A], "10.0.0.2");
    assert_eq!(lab.next_hops(A), ["10.0.33.1"]);
    assert_eq!(lab.ways(&[("10.0.33.1", Way::Nowhere)]), [A]);
    assert_eq!(lab.next_hops(A), ["10.0.0.2"], "LOCAL_PREF of a path that leads nowhere counts for nothing");
    lab.announce(1, 0, &["10.0.33.0/24"], "10.0.0.3");
    assert_eq!(lab.next_hops(A), ["10.0.0.3"], "now it does");
    lab.withdraw(1, 0, "10.0.33.0/24");
    assert_eq!(lab.next_hops(A), ["10.0.0.2"]);
}

#[test]
fn chains_end_after_eight_routes() {
    let mut lab = lab();
    for number in 0..12_u8 {
        let next = if number == 0 { "10.0.0.2".to_owned() } else { format!("10.0.{}.1", 32 + number - 1) };
        lab.announce(1, 0, &[&format!("10.0.{}.0/24", 32 + number)], &next);
    }
    let hops: Vec<String> = (0..12).map(|number| format!("10.0.{}.1", 32 + number)).collect();
    lab.ways(&hops.iter().map(|hop| (hop.as_str(), Way::Nowhere)).collect::<Vec<_>>());
    assert_eq!(lab.next_hops("10.0.40.0/24"), ["10.0.0.2"], "over eight");
    assert_eq!(lab.next_hops("10.0.41.0/24"), [""; 0], "over nine");
}
