//! The compiled table in the maps of the XDP program.
