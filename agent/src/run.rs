//! The running agent: wires the parts together and serves until told to stop.
