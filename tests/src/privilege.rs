//! Tests that need what not everybody may do.

use nix::unistd::Uid;

/// Whether a test that raises a lab can run. When it cannot, says so.
///
/// # Panics
/// It cannot, under `CI=true`: a check that does not run must not look like one that passes.
pub fn can_raise_labs() -> bool {
    if Uid::effective().is_root() {
        return true;
    }
    let message = "skipped: labs need root for namespaces, mounts and XDP programs";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    println!("{message}");
    false
}
