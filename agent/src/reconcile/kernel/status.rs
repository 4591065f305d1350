//! Where prefixes stand, for reports.

use std::net::IpAddr;

use super::plan::Blocked;

/// Where a prefix stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteStatus {
    /// Not written yet, or not read back yet.
    Pending,
    /// Read back as wanted.
    Synced,
    /// A route that is not ours has the same key.
    Blocked(Blocked),
    /// Read back without these next hops, which no interface leads to.
    Partial(Vec<IpAddr>),
    /// The kernel refused it, in its own words.
    Error(String),
}

impl std::fmt::Display for RouteStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pending => f.write_str("pending"),
            Self::Synced => f.write_str("synced"),
            Self::Blocked(blocked) => write!(f, "error: {blocked}"),
            Self::Partial(left_out) => {
                let list: Vec<String> = left_out.iter().map(ToString::to_string).collect();
                write!(f, "error: left out next hops that are not on-link: {}", list.join(", "))
            }
            Self::Error(message) => write!(f, "error: {message}"),
        }
    }
}

/// How many prefixes stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusCounts {
    /// Prefixes wanted.
    pub desired: usize,
    /// [`RouteStatus::Synced`].
    pub synced: usize,
    /// [`RouteStatus::Pending`].
    pub pending: usize,
    /// [`RouteStatus::Blocked`], [`RouteStatus::Partial`] and [`RouteStatus::Error`].
    pub errors: usize,
}

impl StatusCounts {
    /// One prefix's share changes from `before` to `after`.
    pub const fn replace(&mut self, before: Self, after: Self) {
        self.desired = self.desired - before.desired + after.desired;
        self.synced = self.synced - before.synced + after.synced;
        self.pending = self.pending - before.pending + after.pending;
        self.errors = self.errors - before.errors + after.errors;
    }
}
