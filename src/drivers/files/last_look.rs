//! The look at an item just before its cleanup script starts.
//!
//! The machine has looked before, too, but a script for several items starts up to half a second later. What somebody
//! wrote in between would be cleaned up undelivered.

use std::path::Path;

use super::source::written;
use crate::drivers::manifest::{Site, SurveyError};
use crate::machine::{Cause, CleanupItem, Reason};

/// Whether a script may have the item: it has its signature, or does not exist any more.
///
/// # Errors
///
/// The item cannot be examined, or a process has a file of it open for writing.
pub fn is_untouched(file_dir: &Path, item: &CleanupItem) -> Result<bool, Reason> {
    let Some(signature) = item.signature else { return Ok(true) };
    let found = Site::open(file_dir, &item.item).and_then(|site| site.survey().map(|survey| (site, survey)));
    let found = found.and_then(|(site, survey)| Ok((survey.signature() == signature, written(&site, &survey)?)));
    match found {
        Ok((true, Some(path))) => Err(Reason::with(Cause::Busy, &path)),
        Ok((is_same, _)) => Ok(is_same),
        Err(SurveyError::Gone) => Ok(true),
        Err(error) => Err(Reason::with(Cause::Cleanup, &error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;
    use crate::drivers::files::testing::{name, transfer};
    use crate::machine::{Digest, Fingerprint, Signature};

    #[test]
    fn what_was_written_since_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let signature = |name| Site::open(dir.path(), name).unwrap().survey().unwrap().signature();
        let mut item = CleanupItem {
            transfer: transfer(1),
            item: name("a"),
            signature: Some(signature(&name("a"))),
            fingerprint: Fingerprint { size: 3, digest: Digest([0; 16]) },
            upload: "up".parse().unwrap(),
            receivers: Vec::new(),
        };
        let start = std::time::Instant::now();
        // After all writers are gone: a child of another test shares our descriptors until exec.
        while is_untouched(dir.path(), &item) != Ok(true) {
            assert!(start.elapsed().as_secs() < 30);
        }
        let mut open = fs::File::options().append(true).open(&path).unwrap();
        assert_eq!(is_untouched(dir.path(), &item).unwrap_err().cause(), Cause::Busy);
        open.write_all(b" and more").unwrap();
        drop(open);
        assert_eq!(is_untouched(dir.path(), &item), Ok(false));
        item.signature = Some(Signature([7; 16]));
        assert_eq!(is_untouched(dir.path(), &item), Ok(false));
        fs::remove_file(&path).unwrap();
        assert_eq!(is_untouched(dir.path(), &item), Ok(true), "its script finds nothing");
    }
}
