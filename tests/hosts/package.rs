//! Our package, as people get it.

use std::fs;
use std::path::{Path, PathBuf};

use super::bed::source;
use super::host::Host;

/// The package that `make deb` has built last.
pub fn deb() -> PathBuf {
    let dir = source().join("target/packages");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}: run make deb first", dir.display()));
    let mut debs: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "deb"))
        .map(|entry| (entry.metadata().and_then(|meta| meta.modified()).unwrap(), entry.path()))
        .collect();
    debs.sort();
    debs.pop().unwrap_or_else(|| panic!("{}: no package: run make deb first", dir.display())).1
}

/// Installs the package as the README says. What it depends on is in the image.
pub fn install(host: &Host, deb: &Path) {
    let name = deb.file_name().unwrap().to_str().unwrap();
    fs::copy(deb, host.root().join("root").join(name)).unwrap();
    host.run(&format!("apt-get install -y -q ./{name}"));
}
