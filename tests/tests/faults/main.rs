//! Peers and links that fail, and what the agent makes of it: its session, its routes in the kernel, its open
//! files and its memory. The agent is the real program in a namespace; its peer is BIRD 2 or one that does on
//! purpose what a daemon would not.

mod clock;
mod crossing;
mod flapping;
mod lost;
mod rig;
mod slow;
mod storm;
mod wall_clock;
