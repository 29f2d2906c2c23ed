//! Says that items are complete (`ready = "submit"`).

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::exit::Exit;
use super::explain::on_host;
use super::output::Out;
use super::reports::{orders_exit, orders_text};
use super::session::Failure;
use super::terminal::complain;
use crate::control::types::Orders;
use crate::control::{Client, ITEMS_LIMIT};

/// Carries out `synklerctl submit`. What was done before a failure is printed before the failure.
pub(super) fn submit(client: &mut Client, paths: &[PathBuf], moves: bool, out: Out<'_>) -> Result<Exit, Failure> {
    let mut paths: Vec<_> = paths.iter().map(|path| on_host(path)).collect();
    let mut stopped = None;
    if moves {
        (paths, stopped) = bring(client, &paths)?;
    }
    let mut orders = Orders { deeds: Vec::new(), silent: Vec::new() };
    for some in paths.chunks(ITEMS_LIMIT) {
        match client.submit(some) {
            Ok(done) => orders.deeds.extend(done.deeds),
            Err(failure) => {
                out.document(&orders, |look| orders_text(&orders, look))?;
                if moves {
                    complain("the files are in file_dir now and not all of them are submitted: submit them there");
                }
                return Err(failure.into());
            }
        }
    }
    if !paths.is_empty() {
        out.document(&orders, |look| orders_text(&orders, look))?;
    }
    stopped.map_or_else(|| Ok(orders_exit(&orders)), Err)
}

/// Moves files into `file_dir`. Returns their paths there, and why the next one could not be moved: those before it are
/// to be submitted nevertheless.
fn bring(client: &mut Client, paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Option<Failure>), Failure> {
    let refused = |path: &Path, why: &str| Failure::Refused(format!("cannot move {path:?}: {why}"));
    // Elsewhere a moved file would be sent without being submitted, or never.
    if let Some(deed) = client.submit(&[])?.deeds.into_iter().find(|deed| !deed.done) {
        return Err(Failure::Refused(deed.text));
    }
    let node = client.status(Some(0), true)?.node;
    let file_dir = node.directory().filter(|path| path.is_absolute());
    let file_dir = file_dir.ok_or_else(|| Failure::Refused("the daemon does not say where file_dir is".to_owned()))?;
    let mut targets = Vec::new();
    for path in paths {
        let name = path.file_name().ok_or_else(|| refused(path, "it has no name"))?;
        let target = file_dir.join(name);
        let meaning = client.explain(&target)?;
        if meaning.verdict != "item" {
            return Err(refused(path, &format!("as {target:?}: {}", meaning.text)));
        }
        targets.push(target);
    }
    let mut moved = Vec::new();
    for (path, target) in paths.iter().zip(targets) {
        if let Err(errno) = renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            let why = match errno {
                Errno::XDEV => {
                    format!("it is on another file system than {file_dir:?}: copy it there, then submit the copy")
                }
                Errno::EXIST => format!("{target:?} exists"),
                Errno::INVAL => "file_dir is in it, or its file system cannot rename without replacing".to_owned(),
                errno => std::io::Error::from(errno).to_string(),
            };
            return Ok((moved, Some(refused(path, &why))));
        }
        moved.push(target);
    }
    Ok((moved, None))
}
