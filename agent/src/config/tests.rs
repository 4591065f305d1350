#[test]
fn show() {
    for text in [
        "[agent]\nsocket = 3\n[bogus]\n",
        "[datapath]\nport = [\"eth0\"]\naccelerate = [\"10.0.0.1/8\", \"0.0.0.0/0\"]\nlease = \"1s\"\n",
        "[bgp]\nlocal_as = 64512\nrouter_id = \"1.1.1.1\"\nhold_time = 3\n\n[[bgp.peers]]\naddress = \"1.2.3.4\"\nhold_time=\"2s\"\n[[bgp.peers]]\naddress = \"1.2.3.4\"\nremote_as = 0\n",
        "[datapath\nx = 1\n",
        "",
        "datapath = 3\nkernel.protocol = 12",
    ] {
        println!("-----\n{text}");
        for problem in super::parse(text).problems {
            println!("{problem}");
        }
    }
}
