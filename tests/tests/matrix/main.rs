//! The interop matrix: four daemons by nine capabilities, a test each, and `ExaBGP` with malformed messages.
//! `cargo xtask matrix` makes the tables in `docs/interop.md` of a run.

mod basics;
mod malformed;
mod peer;
mod refresh;
mod render;
mod restart;
mod rig;
mod secured;
mod table;

use peer::Make;
use underpass_tests::matrix::Outcome;
use underpass_tests::privilege;

/// Runs a cell and leaves what it found.
fn run(name: &str, cell: impl FnOnce() -> Outcome) {
    if privilege::can_raise_labs() {
        cell().record(name).expect("a result");
    }
}

/// A test per cell, named by daemon and capability.
macro_rules! matrix {
    ($($name:ident: $cell:path, $make:ident;)*) => {
        /// All cells.
        const CELLS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                run(stringify!($name), || $cell(Make::$make));
            }
        )*
    };
}

matrix! {
    bird1_establish: basics::establish, Bird1;
    bird1_learn: basics::learn, Bird1;
    bird1_withdraw: basics::withdraw, Bird1;
    bird1_add_path: basics::add_path, Bird1;
    bird1_md5: secured::md5, Bird1;
    bird1_gtsm: secured::gtsm, Bird1;
    bird1_graceful_restart: restart::graceful_restart, Bird1;
    bird1_refresh: refresh::refresh, Bird1;
    bird1_ipv6: basics::ipv6, Bird1;
    bird2_establish: basics::establish, Bird2;
    bird2_learn: basics::learn, Bird2;
    bird2_withdraw: basics::withdraw, Bird2;
    bird2_add_path: basics::add_path, Bird2;
    bird2_md5: secured::md5, Bird2;
    bird2_gtsm: secured::gtsm, Bird2;
    bird2_graceful_restart: restart::graceful_restart, Bird2;
    bird2_refresh: refresh::refresh, Bird2;
    bird2_ipv6: basics::ipv6, Bird2;
    frr_establish: basics::establish, Frr;
    frr_learn: basics::learn, Frr;
    frr_withdraw: basics::withdraw, Frr;
    frr_add_path: basics::add_path, Frr;
    frr_md5: secured::md5, Frr;
    frr_gtsm: secured::gtsm, Frr;
    frr_graceful_restart: restart::graceful_restart, Frr;
    frr_refresh: refresh::refresh, Frr;
    frr_ipv6: basics::ipv6, Frr;
    gobgp_establish: basics::establish, GoBgp;
    gobgp_learn: basics::learn, GoBgp;
    gobgp_withdraw: basics::withdraw, GoBgp;
    gobgp_add_path: basics::add_path, GoBgp;
    gobgp_md5: secured::md5, GoBgp;
    gobgp_gtsm: secured::gtsm, GoBgp;
    gobgp_graceful_restart: restart::graceful_restart, GoBgp;
    gobgp_refresh: refresh::refresh, GoBgp;
    gobgp_ipv6: basics::ipv6, GoBgp;
}

/// A test per malformed message.
macro_rules! malformed {
    ($($name:ident: $case:ident;)*) => {
        /// All of them.
        const MALFORMED: &[(&str, malformed::Case)] = &[$((stringify!($name), malformed::$case)),*];

        $(
            #[test]
            fn $name() {
                run(stringify!($name), || malformed::seen(&malformed::$case));
            }
        )*
    };
}

malformed! {
    exabgp_origin_length: ORIGIN_LENGTH;
    exabgp_origin_value: ORIGIN_VALUE;
    exabgp_origin_flags: ORIGIN_FLAGS;
    exabgp_as_path_truncated: AS_PATH_TRUNCATED;
    exabgp_as_path_segment: AS_PATH_SEGMENT;
    exabgp_med_length: MED_LENGTH;
    exabgp_local_pref_internal: LOCAL_PREF_INTERNAL;
    exabgp_atomic_aggregate: ATOMIC_AGGREGATE;
    exabgp_aggregator: AGGREGATOR;
    exabgp_communities: COMMUNITIES;
    exabgp_extended_communities: EXTENDED_COMMUNITIES;
    exabgp_large_communities: LARGE_COMMUNITIES;
    exabgp_originator_id: ORIGINATOR_ID;
    exabgp_originator_id_external: ORIGINATOR_ID_EXTERNAL;
    exabgp_cluster_list: CLUSTER_LIST;
    exabgp_mp_reach: MP_REACH;
    exabgp_unknown_well_known: UNKNOWN_WELL_KNOWN;
    exabgp_unknown_transitive: UNKNOWN_TRANSITIVE;
}
