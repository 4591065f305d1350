//! Hands the path of the object with the rival programs, built by the agent's build script, to the tests.

fn main() {
    let object =
        std::env::var("DEP_UNDERPASS_EBPF_RIVALS").expect("the agent's build script hands over the object");
    println!("cargo::rustc-env=RIVALS_OBJECT={object}");
}
