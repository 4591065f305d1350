//! The words that rule the whole data plane: lease and kill switch.

use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData};
use underpass_common::abi::{self, Control};

use super::pins::{self, PinError};

/// Position of the kill switch, [`Control::enabled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Never touched since the maps were made: packets are passed, the agent turns it on after its
    /// first sync.
    Fresh,
    /// Packets are forwarded.
    On,
    /// The operator turned it off: it stays off, also across restarts of the agent.
    Off,
}

impl Switch {
    /// From the word in the map; what is neither is off.
    pub const fn from_word(word: u32) -> Self {
        match word {
            0 => Self::Fresh,
            1 => Self::On,
            _ => Self::Off,
        }
    }

    /// The word in the map.
    pub const fn word(self) -> u32 {
        match self {
            Self::Fresh => 0,
            Self::On => 1,
            Self::Off => 2,
        }
    }
}

/// The control word cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No agent ever loaded a data plane here.
    #[error(
        "no data plane is loaded below {}: start the agent first, or give the configuration it was \
         started with", folder.display()
    )]
    NotLoaded {
        /// The pin folder.
        folder: PathBuf,
    },
    /// Nobody can tell: the folder cannot be looked into.
    #[error("cannot tell whether {} is there: {source}; run the command as root", path.display())]
    Unknown {
        /// The pinned map.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// The pinned map cannot be opened.
    #[error("cannot open {}: {source}; run the command as root", path.display())]
    Open {
        /// The pinned map.
        path: PathBuf,
        /// The answer of the kernel.
        source: aya::maps::MapError,
    },
    /// The lock.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The map.
    #[error("{map}: {0}", map = abi::map::CONTROL)]
    Map(#[from] aya::maps::MapError),
}

/// The control map, shared by the agent and `underpass on|off`.
///
/// The element is written as a whole, so each change is made under a lock on the pin folder: a lease
/// that is renewed at the wrong moment would undo an `off`.
pub struct ControlWord {
    map: Array<MapData, Control>,
    folder: PathBuf,
}

impl ControlWord {
    /// Over a map that was loaded.
    pub const fn new(map: Array<MapData, Control>, folder: PathBuf) -> Self {
        Self { map, folder }
    }

    /// Over the map that is pinned in `folder`.
    ///
    /// # Errors
    /// Nothing is pinned there, the right to open it is missing, or it is not the control map.
    pub fn open(folder: &Path) -> Result<Self, ControlError> {
        let path = pins::map(folder, abi::map::CONTROL);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(ControlError::NotLoaded { folder: folder.to_owned() }),
            // Whoever may not look must not be told that there is nothing to switch off.
            Err(source) => return Err(ControlError::Unknown { path, source }),
        }
        let data = MapData::from_pin(&path).map_err(|source| ControlError::Open { path, source })?;
        let map = Map::from_map_data(data)?;
        Ok(Self::new(Array::try_from(map)?, folder.to_owned()))
    }

    /// Reads it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get(&self) -> Result<Control, ControlError> {
        Ok(self.map.get(&0, 0)?)
    }

    /// Changes it; nobody else does in between.
    ///
    /// # Errors
    /// The lock or the kernel refuses.
    pub fn update(&mut self, change: impl FnOnce(&mut Control)) -> Result<Control, ControlError> {
        let _lock = pins::lock_control(&self.folder)?;
        let mut control = self.get()?;
        change(&mut control);
        self.map.set(0, control, 0)?;
        Ok(control)
    }
}

/// The kill switch: works without a running agent, on the pinned map alone.
///
/// # Errors
/// No data plane is loaded there, or the kernel refuses.
pub fn set_enabled(bpffs: &Path, enabled: bool) -> Result<(), ControlError> {
    let switch = if enabled { Switch::On } else { Switch::Off };
    let mut control = ControlWord::open(&pins::folder(bpffs))?;
    control.update(|control| control.enabled = switch.word())?;
    tracing::info!(enabled, "kill switch set");
    Ok(())
}

/// Position of the kill switch of the data plane below `bpffs`; works without a running agent.
///
/// # Errors
/// As [`set_enabled`].
pub fn switch(bpffs: &Path) -> Result<Switch, ControlError> {
    let control = ControlWord::open(&pins::folder(bpffs))?.get()?;
    Ok(Switch::from_word(control.enabled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_forwards() {
        for (word, expected) in [(0, Switch::Fresh), (1, Switch::On), (2, Switch::Off), (77, Switch::Off)] {
            assert_eq!(Switch::from_word(word), expected, "{word}");
        }
        for switch in [Switch::Fresh, Switch::On, Switch::Off] {
            assert_eq!(Switch::from_word(switch.word()), switch);
        }
    }

    #[test]
    fn switch_without_a_data_plane_names_the_folder() {
        let error = set_enabled(Path::new("/nonexistent/underpass"), false).expect_err("not loaded");
        assert!(matches!(error, ControlError::NotLoaded { .. }), "{error}");
        assert!(error.to_string().contains("/nonexistent/underpass/v"), "{error}");
    }

    #[test]
    fn folder_that_cannot_be_looked_into_is_not_an_absent_data_plane() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let error = set_enabled(file.path(), false).expect_err("a file is no folder");
        assert!(matches!(error, ControlError::Unknown { .. }), "{error}");
    }
}
