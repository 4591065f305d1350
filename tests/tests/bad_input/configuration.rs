//! Configurations that the agent refuses, before it does anything.

use std::fs;

use underpass_tests::agent::Agent;

use super::{DATAPATH, ROUTER, bgp, two_machines, wait_ended};

#[test]
fn refused_configurations_are_named_by_line_and_key() {
    let Some(lab) = two_machines() else { return };
    let cases = [
        ("malformed TOML", "[datapath\nports = []\n".to_owned(), "[datapath", vec!["not valid TOML"]),
        (
            "an unknown key, near a known one",
            DATAPATH.replace("ports", "port"),
            "port = ",
            vec!["datapath.port: unknown key; did you mean `ports`?", "datapath.ports"],
        ),
        (
            "an unknown section",
            format!("{DATAPATH}[dataplane]\nports = [\"eth0\"]\n"),
            "[dataplane]",
            vec!["dataplane: unknown key"],
        ),
        (
            "a value of another type",
            DATAPATH.replace("[\"eth0\"]", "7"),
            "ports = 7",
            vec!["datapath.ports: "],
        ),
        (
            "a lease that is too short",
            format!("{DATAPATH}lease = \"1s\"\n"),
            "lease",
            vec!["datapath.lease: 1s"],
        ),
        (
            "an address that is none",
            bgp("source_address = \"10.0.0.256\"\n"),
            "source_address",
            vec!["bgp.peers[0].source_address: "],
        ),
    ];
    for (name, sections, line, expected) in cases {
        let mut agent = Agent::start(&lab, ROUTER, &sections).expect("started");
        let (code, log) = wait_ended(&mut agent);
        assert_eq!(code, Some(2), "{name}: {log}");
        let file = agent.client().config();
        let text = fs::read_to_string(&file).expect("the lab wrote it");
        let number = text.lines().position(|text| text.starts_with(line)).expect("the line is there") + 1;
        assert!(log.contains(&format!("{}:{number}:", file.display())), "{name}: line {number} in {log}");
        for words in expected {
            assert!(log.contains(words), "{name}: {words:?} in {log}");
        }
        assert!(!log.contains("panicked"), "{name}: {log}");
        assert!(!agent.client().socket().exists(), "{name}: no socket is made");
        let program = lab.netns(ROUTER).xdp_program("eth0").expect("an interface");
        assert_eq!(program, None, "{name}: nothing is attached");
        // The log goes on with the next case.
        fs::remove_file(agent.process().log()).expect("a log");
    }
}
