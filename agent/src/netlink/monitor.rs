//! Watch, dump, watch.
