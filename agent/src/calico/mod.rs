//! Calico's resources as a configuration of ours.
//!
//! ```text
//! files ─▶ yaml (documents with places) ─▶ read (fields, selectors) ─▶ model::Resources
//!            ─▶ sessions (who peers with whom, as Calico decides it) ─▶ plan (keys and remarks) ─▶ render (TOML)
//! ```
//!
//! Only [`load`] and [`encapsulated_pools`] touch files; everything behind them is a function of its arguments.
//! `docs/calico.md` says what is taken over and what is not.

mod fields;
pub mod model;
pub mod plan;
pub mod problem;
mod read;
pub mod render;
pub mod selector;
pub mod sessions;
mod value;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

pub use model::{CrossSubnet, Resources};
pub use problem::{Error, Problem, Severity};
use read::Wanted;

/// Reads the resources of files, and of the `.yaml`, `.yml` and `.json` files of folders (not those of folders in
/// them); the second value has warnings and notes.
///
/// # Errors
/// A path cannot be read, a folder has no such file, or resources have errors: then all of them are in the error.
pub fn load(paths: &[impl AsRef<Path>]) -> Result<(Resources, Vec<Problem>), Error> {
    load_wanted(paths, Wanted::Everything)
}

/// The ranges of the `IPPool` resources whose packets travel in others (`ipipMode` or `vxlanMode` is not `Never`;
/// `CrossSubnet` and disabled pools count), sorted. Routes to them must not be used natively. Resources of other kinds
/// are left out without a word.
///
/// # Errors
/// As [`load`]; also when the files have no `IPPool` at all, because a guard without pools would guard nothing.
pub fn encapsulated_pools(paths: &[impl AsRef<Path>]) -> Result<Vec<IpNet>, Error> {
    encapsulated_pools_with(paths, CrossSubnet::Encapsulated)
}

/// As [`encapsulated_pools`], with a word on `CrossSubnet`.
///
/// # Errors
/// As [`encapsulated_pools`].
pub fn encapsulated_pools_with(
    paths: &[impl AsRef<Path>],
    cross_subnet: CrossSubnet,
) -> Result<Vec<IpNet>, Error> {
    let (resources, _) = load_wanted(paths, Wanted::Pools)?;
    if resources.pools.is_empty() {
        return Err(Error::NoPool(paths.iter().map(|path| path.as_ref().to_owned()).collect()));
    }
    let encapsulated = resources.pools.values().filter(|pool| pool.is_encapsulated(cross_subnet));
    let mut ranges: Vec<IpNet> = encapsulated.map(|pool| pool.cidr).collect();
    ranges.sort_unstable();
    ranges.dedup();
    Ok(ranges)
}

fn load_wanted(paths: &[impl AsRef<Path>], wanted: Wanted) -> Result<(Resources, Vec<Problem>), Error> {
    let mut texts = Vec::new();
    for path in paths {
        for file in files(path.as_ref())? {
            let text =
                fs::read_to_string(&file).map_err(|source| Error::Read { path: file.clone(), source })?;
            texts.push((file, text));
        }
    }
    let (resources, problems) = read::read(&texts, wanted);
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Error::Invalid(problems));
    }
    Ok((resources, problems))
}

/// A file itself, or the resource files of a folder in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |source| Error::Read { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let is_resource = file
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        if is_resource && file.is_file() {
            files.push(file);
        }
    }
    files.sort_unstable();
    if files.is_empty() { Err(Error::Empty(path.to_owned())) } else { Ok(files) }
}
