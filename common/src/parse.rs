//! Header layouts and the checks that a frame must pass before it may be forwarded.
