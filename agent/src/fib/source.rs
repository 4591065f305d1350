//! What the kernel thinks of a source address, as far as routes decide it.

use super::model::Source;
use super::table::Unicast;

/// The facts that `__fib_validate_source` (`net/ipv4/fib_frontend.c`) takes from a unicast route: the
/// interfaces of all its next hops (`fib_info_nh_uses_dev`), and whether the sender is on-link
/// (`nhc_scope >= RT_SCOPE_HOST`, which is a next hop without gateway; with several next hops any of
/// them counts, so that a redirect is never missed).
pub fn of(route: &Unicast) -> Source {
    Source {
        valid: true,
        on_link: route.hops.iter().any(|hop| hop.gateway.is_none()),
        interfaces: route.hops.iter().map(|hop| hop.ifindex).collect(),
    }
}
