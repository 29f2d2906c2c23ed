//! The receipt of a transfer in the format of `md5sum -c`: one line per file, to be checked in the directory that holds
//! the item.
//!
//! md5sum reads names as bytes, and Varlink has only text. So if a name contains bytes that are not UTF-8, the lines
//! are encoded by [`encode_bytes`](crate::machine::encode_bytes), and marked as such.

use super::types::GetReceipt;
use crate::machine::{Digest, ItemName, Kind, decode_bytes};

/// The maximum size of a receipt in bytes.
pub(super) const RECEIPT_LIMIT: usize = 8 << 20;

/// Why there is no receipt, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoReceipt {
    #[error("md5sum cannot check a symbolic link")]
    Link,
    #[error(
        "this node has no checksum list for this directory: it is too large, not verified here yet, or from an older \
         version"
    )]
    NoManifest,
    #[error("the receipt would have more than {} MB", RECEIPT_LIMIT >> 20)]
    TooLarge,
    #[error("the checksum list of this directory is damaged")]
    Damaged,
}

/// The lines for an item, with a line feed after each. Directories need `manifest`: the text as the drivers write it,
/// one entry per line.
pub(super) fn lines(name: &ItemName, kind: Kind, digest: Digest, manifest: Option<&str>) -> Result<Vec<u8>, NoReceipt> {
    let mut lines = Vec::new();
    match kind {
        Kind::File => push(&mut lines, &digest.to_string(), name.as_bytes(), b""),
        Kind::Symlink => return Err(NoReceipt::Link),
        Kind::Directory => {
            for entry in manifest.ok_or(NoReceipt::NoManifest)?.lines() {
                let mut fields = entry.split(' ');
                // Links and directories have no digest of their own.
                if fields.next() != Some("f") {
                    continue;
                }
                let (Some(md5), Some(path), None) = (fields.nth(1), fields.next(), fields.next()) else {
                    return Err(NoReceipt::Damaged);
                };
                push(&mut lines, md5, name.as_bytes(), &decode_bytes(path).ok_or(NoReceipt::Damaged)?);
                if lines.len() > RECEIPT_LIMIT {
                    return Err(NoReceipt::TooLarge);
                }
            }
        }
    }
    Ok(lines)
}

/// One line. As in md5sum, a backslash marks a line whose name has a line feed, a carriage return or a backslash, and
/// the name is escaped.
fn push(lines: &mut Vec<u8>, md5: &str, name: &[u8], below: &[u8]) {
    let path = [name, if below.is_empty() { b"".as_slice() } else { b"/" }, below].concat();
    if path.iter().any(|byte| matches!(byte, b'\n' | b'\r' | b'\\')) {
        lines.push(b'\\');
    }
    lines.extend_from_slice(md5.as_bytes());
    lines.extend_from_slice(b"  ");
    for byte in path {
        match byte {
            b'\n' => lines.extend_from_slice(b"\\n"),
            b'\r' => lines.extend_from_slice(b"\\r"),
            b'\\' => lines.extend_from_slice(b"\\\\"),
            other => lines.push(other),
        }
    }
    lines.push(b'\n');
}

impl GetReceipt {
    /// Appends the line to the text.
    pub(super) fn new(id: String, item: &ItemName, lines: Vec<u8>, remark: Option<String>) -> Self {
        let (lines, encoded) = match String::from_utf8(lines) {
            Ok(lines) => (lines, false),
            Err(raw) => (encode(raw.as_bytes()), true),
        };
        Self { id, item: item.to_string(), lines, encoded, remark }
    }

    /// The lines for `md5sum -c`; `None` if the daemon's encoding is invalid.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        if self.encoded { decode_bytes(&self.lines) } else { Some(self.lines.clone().into_bytes()) }
    }
}

/// Writes `%` and bytes that are not UTF-8 as `%` and two hex digits.
fn encode(lines: &[u8]) -> String {
    let mut text = String::with_capacity(lines.len() + lines.len() / 8);
    for chunk in lines.utf8_chunks() {
        text.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn name(bytes: &[u8]) -> ItemName {
        ItemName::new(bytes).unwrap()
    }

    /// The MD5 of an empty file.
    const EMPTY: &str = "d41d8cd98f00b204e9800998ecf8427e";

    #[test]
    fn md5sum_takes_what_is_written_for_every_name() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let names: [&[u8]; 7] =
            [b"plain", b"line\nfeed", b"back\\slash", b"caf\xe9 100%", b"\r", b" two  spaces", b"-c *?\\n"];
        for bytes in names {
            let item = dir.path().join(std::ffi::OsStr::from_bytes(bytes));
            fs::create_dir(&item).unwrap();
            let mut manifest = "d - - .\n".to_owned();
            for below in names {
                fs::write(item.join(std::ffi::OsStr::from_bytes(below)), "").unwrap();
                let path = crate::machine::encode_bytes(below).replace(' ', "%20");
                manifest.push_str(&format!("f 0 {EMPTY} {path}\n"));
            }
            manifest.push_str("l - target link\n");
            let lines = lines(&name(bytes), Kind::Directory, Digest([0; 16]), Some(&manifest)).unwrap();
            let told = GetReceipt::new("id".to_owned(), &name(bytes), lines, None);
            fs::write(dir.path().join("sums"), told.bytes().unwrap()).unwrap();
            let check = Command::new("md5sum").args(["--strict", "-c", "sums"]).current_dir(dir.path()).output();
            let check = check.unwrap();
            assert!(check.status.success(), "{told:?}: {}", String::from_utf8_lossy(&check.stderr));
            assert_eq!(told.lines.lines().count(), names.len());
            fs::write(item.join("plain"), "changed").unwrap();
            let check = Command::new("md5sum").args(["-c", "sums"]).current_dir(dir.path()).output().unwrap();
            assert!(!check.status.success());
        }
    }

    #[test]
    fn a_file_has_one_line_and_a_link_none() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(
            lines(&name(b"a\\b"), Kind::File, digest, None).unwrap(),
            format!("\\{EMPTY}  a\\\\b\n").into_bytes()
        );
        assert_eq!(lines(&name(b"x"), Kind::Symlink, digest, None), Err(NoReceipt::Link));
        assert_eq!(lines(&name(b"x"), Kind::Directory, digest, None), Err(NoReceipt::NoManifest));
        for damaged in ["f 0", "f 0 abc", "f 0 abc a b", "f 0 abc %zz"] {
            assert_eq!(lines(&name(b"x"), Kind::Directory, digest, Some(damaged)), Err(NoReceipt::Damaged));
        }
        let long = format!("f 0 {EMPTY} {}\n", "y".repeat(200)).repeat(50_000);
        assert_eq!(lines(&name(b"x"), Kind::Directory, digest, Some(&long)), Err(NoReceipt::TooLarge));
    }
}
