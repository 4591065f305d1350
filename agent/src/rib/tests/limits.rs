//! What follows when a peer sends much: warning, end of the session; and what rules do to what is stored.

use super::super::limit::{Excess, LimitStatus, Order};
use super::*;
use crate::config::model::{Peer, Rule, RuleAction};

const C: &str = "10.233.66.0/26";
const PAUSE: Duration = Duration::from_mins(5);

fn limited(paths: usize, excess: Excess) -> Lab {
    let mut config = config(&[1]);
    let limit = PrefixLimit { excess, ..PrefixLimit::discard(paths) };
    config.peers.insert(peer(1), PeerConfig { limit, ..peer_config(paths) });
    let mut lab = Lab::new(config);
    lab.handle(RibEvent::PeerUp(session(1)));
    lab
}

#[test]
fn a_peer_beyond_its_bound_is_told_once_per_session() {
    for restart in [Some(PAUSE), None] {
        let mut lab = limited(2, Excess::End { restart });
        lab.announce(1, 0, &[A, B], "10.0.0.11");
        assert_eq!(lab.rib.take_orders(), [], "at the bound");
        lab.announce(1, 0, &[A], "10.0.0.12");
        assert_eq!(lab.rib.take_orders(), [], "a change takes no room");
        assert_eq!(lab.announce(1, 0, &[C], "10.0.0.11"), [""; 0]);
        let order = Order::PrefixLimit { peer: peer(1), family: Family::Ipv4, limit: 2, restart };
        assert_eq!(lab.rib.take_orders(), [order]);
        assert_eq!(lab.announce(1, 0, &[C, A], "10.0.0.13"), [""; 0], "the session is about to end");
        assert_eq!(lab.next_hops(A), ["10.0.0.12"]);
        assert_eq!(lab.withdraw(1, 0, B), [B]);
        assert_eq!(lab.rib.take_orders(), []);

        assert_eq!(lab.handle(RibEvent::PeerDown { peer: peer(1), loss: Loss::Final }), [A]);
        lab.handle(RibEvent::PeerUp(session(1)));
        assert_eq!(lab.announce(1, 0, &[A, B], "10.0.0.11"), [A, B], "the next session");
        lab.announce(1, 0, &[C], "10.0.0.11");
        assert_eq!(lab.rib.take_orders(), [order]);
    }
}

#[test]
fn what_is_refused_or_stale_does_not_count() {
    let mut lab = limited(2, Excess::End { restart: None });
    lab.announce(1, 0, &["192.0.2.0/24", "192.0.3.0/24", "192.0.4.0/24", A, B], "10.0.0.11");
    assert_eq!(lab.rib.take_orders(), []);
    lab.restart_begins(1);
    lab.comes_back(1, true);
    lab.announce(1, 1, &[A, B], "10.0.0.11");
    assert_eq!(lab.rib.take_orders(), [], "new path identifiers after a restart");
    lab.announce(1, 2, &[A], "10.0.0.12");
    assert_eq!(lab.rib.take_orders().len(), 1);
}

#[test]
fn the_bound_on_paths_of_a_prefix_ends_no_session() {
    let mut lab = limited(100, Excess::End { restart: None });
    for path_id in 0..20 {
        lab.announce(1, path_id, &[A], "10.0.0.11");
    }
    assert_eq!(lab.rib.filtered()[&Refusal::MaxPathsPerPrefix], 12);
    assert_eq!(lab.rib.take_orders(), []);
}

#[test]
fn nearness_is_reported_for_as_long_as_it_lasts() {
    let mut lab = limited(5, Excess::Discard);
    let near = |lab: &Lab| lab.rib.limit_status(&peer(1)).unwrap();
    lab.announce(1, 0, &[A, B, C], "10.0.0.11");
    assert_eq!(near(&lab), LimitStatus { paths: 5, used: 3, near: false });
    lab.announce(1, 1, &[A], "10.0.0.12");
    assert_eq!(near(&lab), LimitStatus { paths: 5, used: 4, near: true });
    lab.withdraw(1, 1, A);
    assert_eq!(near(&lab), LimitStatus { paths: 5, used: 3, near: false });
    assert_eq!(lab.rib.limit_status(&peer(9)), None);
}

/// Two peers; the first has these rules.
fn ruled(rules: Vec<Rule>, rules_default: Option<RuleAction>) -> Lab {
    let mut config = config(&[1, 2]);
    let with_rules = Peer { rules, rules_default, ..Peer::new(peer(1), LOCAL_AS) };
    config.peers.get_mut(&peer(1)).unwrap().policy = Policy::new(&with_rules, &[].into());
    let mut lab = Lab::new(config);
    lab.handle(RibEvent::PeerUp(session(1)));
    lab.handle(RibEvent::PeerUp(session(2)));
    lab
}

fn only(text: &str) -> Vec<PrefixRange> {
    vec![PrefixRange { prefix: prefix(text), min: 26, max: 26 }]
}

#[test]
fn rules_reject_and_prefer() {
    let mut lab = ruled(
        vec![
            Rule { prefixes: only(A), set_weight: Some(1), ..Rule::default() },
            Rule { prefixes: only(B), set_local_pref: Some(99), ..Rule::default() },
        ],
        None,
    );
    lab.announce(1, 0, &[A, B, C], "10.0.0.11");
    assert_eq!(lab.next_hops(C), [""; 0]);
    assert_eq!(lab.rib.filtered()[&Refusal::Policy], 1);
    lab.announce(2, 0, &[A, B, C], "10.0.0.12");
    assert_eq!(lab.next_hops(A), ["10.0.0.11"], "by weight");
    assert_eq!(lab.next_hops(B), ["10.0.0.12"], "by LOCAL_PREF");
    assert_eq!(lab.next_hops(C), ["10.0.0.12"]);
    assert_eq!(lab.withdraw(1, 0, C), [""; 0], "was never in use");
    assert_eq!(lab.counts(1), PeerCounts { received: 2, accepted: 2, ..PeerCounts::default() });
}

#[test]
fn a_path_that_a_rule_rejects_now_is_withdrawn() {
    let rule = Rule { next_hops: vec![prefix("10.0.0.11/32")], ..Rule::default() };
    let mut lab = ruled(vec![rule], None);
    assert_eq!(lab.announce(1, 0, &[A], "10.0.0.11"), [A]);
    assert_eq!(lab.announce(1, 0, &[A], "10.0.0.12"), [A]);
    assert_eq!(lab.next_hops(A), [""; 0]);
    assert_eq!(lab.announce(1, 0, &[A], "10.0.0.11"), [A]);
}

#[test]
fn rules_do_not_open_what_the_guards_refuse() {
    let mut lab = ruled(vec![Rule::default()], Some(RuleAction::Accept));
    lab.announce(1, 0, &["0.0.0.0/0", "192.0.2.0/24"], "10.0.0.11");
    lab.announce(1, 0, &[A], "192.0.2.1");
    assert_eq!(lab.rib.selected_routes().len(), 0);
    let expected = [(Refusal::DefaultRoute, 1), (Refusal::PrefixNotAllowed, 1), (Refusal::NextHopOutside, 1)];
    assert_eq!(*lab.rib.filtered(), expected.into());
}
