use super::*;

const PROTOCOLS_1: &str = "\
name     proto    table    state  since       info
kernel1  Kernel   master   up     07:05:01    
  Preference:     10
Node_172_20_0_12 BGP      master   up     07:05:04    Established   
  Preference:     100
  Routes:         5 imported, 3 exported, 2 preferred
  BGP state:          Established
    Neighbor address: 172.20.0.12
    Neighbor AS:      64512
Global_172_20_0_254 BGP      master   start  07:05:01    Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: 172.20.0.254
    Neighbor AS:      65009
";

const PROTOCOLS_2: &str = "\
Name       Proto      Table      State  Since         Info
peer       BGP        ---        up     07:05:04.123  Established   
  BGP state:          Established
    Neighbor address: 172.20.0.12
    Neighbor AS:      64512
  Channel ipv4
    State:          UP
    Routes:         7 imported, 1 filtered, 4 exported, 7 preferred
";

#[test]
fn reads_sessions() {
    let session = |peer: &str, name: &str, remote_as, state: &str, imported, exported| Session {
        peer: peer.parse().expect("an address"),
        name: name.to_owned(),
        remote_as,
        state: state.to_owned(),
        imported,
        exported,
    };
    assert_eq!(
        parse_protocols(PROTOCOLS_1),
        [
            session("172.20.0.12", "Node_172_20_0_12", 64512, "Established", 5, 3),
            session("172.20.0.254", "Global_172_20_0_254", 65009, "Active", 0, 0),
        ]
    );
    assert_eq!(parse_protocols(PROTOCOLS_2), [session("172.20.0.12", "peer", 64512, "Established", 7, 4)]);
}

#[test]
fn reads_routes() {
    let one = "\
0.0.0.0/0          via 172.20.0.254 on eth0 [kernel1 07:05:01] * (10)
10.233.66.0/26     via 172.20.0.13 on eth0 [Node_172_20_0_13 07:05:05] * (100) [i]
                   via 172.20.0.13 on eth0 [Node_172_20_0_12 07:05:05 from 172.20.0.12] (100) [i]
10.233.64.0/26     blackhole [static1 07:05:01] * (200)
172.20.0.0/24      dev eth0 [direct1 07:05:01] * (240)
10.9.0.0/16        multipath [kernel1 07:05:01] * (10)
	via 172.20.0.12 on eth0 weight 1
	via 172.20.0.11 on eth0 weight 1
";
    let two = "\
Table master4:
10.233.66.0/26       unicast [peer 07:05:05.001] * (100) [i]
	via 172.20.0.13 on eth0
10.233.64.0/26       blackhole [static1 07:05:01.000] * (200)
";
    let path = |prefix: &str, source: &str, kind: &str, next_hops: &[&str], selected| Path {
        prefix: prefix.parse().expect("a prefix"),
        source: source.to_owned(),
        kind: kind.to_owned(),
        next_hops: next_hops.iter().map(|hop| hop.parse().expect("an address")).collect(),
        selected,
    };
    assert_eq!(
        parse_routes(one),
        [
            path("0.0.0.0/0", "kernel1", "unicast", &["172.20.0.254"], true),
            path("10.233.66.0/26", "Node_172_20_0_13", "unicast", &["172.20.0.13"], true),
            path("10.233.66.0/26", "Node_172_20_0_12", "unicast", &["172.20.0.13"], false),
            path("10.233.64.0/26", "static1", "blackhole", &[], true),
            path("172.20.0.0/24", "direct1", "unicast", &[], true),
            path("10.9.0.0/16", "kernel1", "unicast", &["172.20.0.11", "172.20.0.12"], true),
        ]
    );
    assert_eq!(
        parse_routes(two),
        [
            path("10.233.66.0/26", "peer", "unicast", &["172.20.0.13"], true),
            path("10.233.64.0/26", "static1", "blackhole", &[], true),
        ]
    );
}

#[test]
fn reads_replies() {
    let mut text = "0001 BIRD 1.6.8 ready.\n1007-10.0.0.0/8 dev eth0\n  more\n1007-last\n0000 \n".as_bytes();
    assert_eq!(reply(&mut text).expect("the greeting"), "");
    assert_eq!(reply(&mut text).expect("the routes"), "10.0.0.0/8 dev eth0\n more\nlast\n");
    let mut refused = "9001 syntax error\n".as_bytes();
    let error = reply(&mut refused).expect_err("a refusal").to_string();
    assert!(error.contains("syntax error"), "{error}");
    reply(&mut "".as_bytes()).expect_err("the end of the connection");
}
