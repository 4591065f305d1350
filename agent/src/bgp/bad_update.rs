//! An UPDATE with errors, for the log (RFC 7606 §8): the prefixes and the message.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::notification::Notification;
use super::wire::{Fault, MAX_MESSAGE, Update};
use crate::rib::model::RibEvent;

/// Prefixes that are named; more are counted.
const PREFIXES: usize = 8;
/// Octets that are shown: a whole message, unless it is an extended one (RFC 8654).
const OCTETS: usize = MAX_MESSAGE;

/// What was wrong with an UPDATE, and the UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadUpdate {
    /// The error that decides: the strongest, the first of its kind.
    error: Notification,
    consequence: Consequence,
    /// Errors beside that one.
    others: usize,
    prefixes: Vec<IpNet>,
    /// Prefixes beyond those.
    more_prefixes: usize,
    update: Update,
}

/// What follows from an error, the stronger later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    Discarded,
    Withdrawn,
    Reset,
}

impl BadUpdate {
    /// One that was survived; `None` without errors. `events` is what the RIB is told of it.
    pub fn survived(faults: &[Fault], events: &[RibEvent], update: &Update) -> Option<Self> {
        let first = faults.first()?;
        let decides = faults.iter().find(|fault| fault.withdraw).unwrap_or(first);
        let mut named = events.iter().flat_map(prefixes);
        Some(Self {
            error: decides.notification.clone(),
            consequence: if decides.withdraw { Consequence::Withdrawn } else { Consequence::Discarded },
            others: faults.len() - 1,
            prefixes: named.by_ref().take(PREFIXES).collect(),
            more_prefixes: named.count(),
            update: update.clone(),
        })
    }

    /// One that the session is reset for, because its prefixes cannot be told.
    pub fn reset(error: &Notification, update: &Update) -> Self {
        Self {
            error: error.clone(),
            consequence: Consequence::Reset,
            others: 0,
            prefixes: Vec::new(),
            more_prefixes: 0,
            update: update.clone(),
        }
    }

    /// What RFC 4271 §6.3 would answer, in words.
    pub fn error(&self) -> String {
        match self.others {
            0 => self.error.to_string(),
            others => format!("{}, and {others} more errors", self.error),
        }
    }

    /// What follows from it.
    pub const fn consequence(&self) -> &'static str {
        match self.consequence {
            Consequence::Discarded => "attribute discarded",
            Consequence::Withdrawn => "routes withdrawn",
            Consequence::Reset => "session reset",
        }
    }

    /// The prefixes that it is about, as far as they could be read.
    pub fn prefixes(&self) -> String {
        let named: Vec<String> = self.prefixes.iter().map(ToString::to_string).collect();
        match (named.is_empty(), self.more_prefixes) {
            (true, _) => "none that can be told".to_owned(),
            (false, 0) => named.join(" "),
            (false, more) => format!("{} and {more} more", named.join(" ")),
        }
    }

    /// The message in hexadecimal digits, header included.
    pub fn message(&self) -> String {
        let whole = self.update.message();
        let shown = &whole[..whole.len().min(OCTETS)];
        let mut text = shown.iter().fold(String::with_capacity(2 * shown.len()), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        });
        if shown.len() < whole.len() {
            let _ = write!(text, "... ({} octets)", whole.len());
        }
        text
    }
}

/// Withdrawn, or announced.
fn prefixes(event: &RibEvent) -> impl Iterator<Item = IpNet> {
    let (withdrawn, announced) = match event {
        RibEvent::Update { withdrawn, announced, .. } => (&withdrawn[..], announced.as_ref()),
        _ => (&[][..], None),
    };
    let announced = announced.map_or(&[][..], |(_, announced)| announced);
    withdrawn.iter().chain(announced).map(|nlri| nlri.prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::notification;
    use crate::bgp::testing::{PEER, message, received, update_body};
    use crate::bgp::wire::Message;
    use crate::rib::model::Nlri;

    fn update(bytes: &[u8]) -> Update {
        let Ok(Message::Update(update)) = received(bytes) else { panic!("an UPDATE") };
        update
    }

    fn fault(withdraw: bool, subcode: u8) -> Fault {
        Fault { withdraw, notification: Notification::new(notification::UPDATE, subcode, "") }
    }

    fn withdrawn(count: u8) -> RibEvent {
        let nlri = |number| Nlri { prefix: IpNet::new([10, 64, number, 0].into(), 24).unwrap(), path_id: 0 };
        RibEvent::Update { peer: PEER, withdrawn: (0..count).map(nlri).collect(), announced: None }
    }

    #[test]
    fn the_strongest_error_decides_and_the_message_is_whole() {
        let bytes = message(2, &update_body(&[8, 11], &[0x40, 1, 1, 9], &[24, 10, 64, 0]));
        let update = update(&bytes);
        assert_eq!(BadUpdate::survived(&[], &[], &update), None);

        let faults = [fault(false, 5), fault(true, 6), fault(true, 3)];
        let bad = BadUpdate::survived(&faults, &[withdrawn(2)], &update).expect("bad");
        let error = bad.error();
        assert!(error.starts_with("3/6 ") && error.ends_with(", and 2 more errors"), "{error}");
        assert_eq!(bad.consequence(), "routes withdrawn");
        assert_eq!(bad.prefixes(), "10.64.0.0/24 10.64.1.0/24");
        let digits = format!("{}0021020002080b000440010109180a4000", "ff".repeat(16));
        assert_eq!(bad.message(), digits);

        let bad = BadUpdate::survived(&faults[..1], &[], &update).expect("bad");
        assert_eq!(
            (bad.consequence(), bad.prefixes().as_str()),
            ("attribute discarded", "none that can be told")
        );
        assert!(bad.error().starts_with("3/5 ") && !bad.error().contains("more"), "{}", bad.error());

        let bad = BadUpdate::reset(&faults[0].notification, &update);
        assert_eq!((bad.consequence(), bad.message()), ("session reset", digits));
    }

    #[test]
    fn prefixes_and_octets_are_bounded() {
        let many = vec![0; 5000];
        let bytes = message(2, &update_body(&many, &[], &[]));
        let bad = BadUpdate::survived(&[fault(true, 1)], &[withdrawn(200)], &update(&bytes)).expect("bad");
        let prefixes = bad.prefixes();
        assert!(prefixes.ends_with("10.64.7.0/24 and 192 more"), "{prefixes}");
        let message = bad.message();
        assert!(message.ends_with("00... (5023 octets)"), "{}", message.len());
        assert_eq!(message.find("..."), Some(2 * OCTETS));
    }
}
