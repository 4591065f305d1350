//! Flow hash: picks the bucket of a group.
