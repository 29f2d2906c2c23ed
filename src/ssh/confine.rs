//! The box of a process, by Landlock: from [`confine`] on, this process and whatever it becomes can open, make and remove
//! only what lies below the directories it was given, links or not; it opens no TCP connection and signals nobody
//! outside. What needs no opening (looking at a file's metadata, changing its mode or times) the kernel does not restrict.

use std::error::Error;
use std::io;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use rustix::io::Errno;

/// What a process in a box may do with a file, or with everything below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// List directories.
    List,
    /// Read files and list directories.
    Read,
    /// The same, and start programs.
    Run,
    /// Read, write, make and remove files, directories and links.
    Change,
}

impl Reach {
    fn access(self) -> BitFlags<AccessFs> {
        match self {
            Self::List => AccessFs::ReadDir.into(),
            Self::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
            Self::Run => make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute}),
            Self::Change => make_bitflags!(AccessFs::{
                ReadFile | ReadDir | WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSym | Refer
            }),
        }
    }
}

/// Why a process is not in its box.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// The kernel has no Landlock, does not use it, or a container's filter of system calls keeps it away.
    #[error("the kernel offers no Landlock")]
    Missing,
    /// It does, and yet it did not work.
    #[error(transparent)]
    Failed(RulesetError),
}

impl From<RulesetError> for Unconfined {
    fn from(error: RulesetError) -> Self {
        let errno = error.source().and_then(|source| source.downcast_ref::<io::Error>()).and_then(Errno::from_io_error);
        match (&error, errno) {
            // The rights of the first version are required, and each Landlock has them.
            (RulesetError::HandleAccesses(_), _) | (_, Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM)) => {
                Self::Missing
            }
            _ => Self::Failed(error),
        }
    }
}

/// Boxes this thread in, and whatever program it becomes, for good: nothing but what `rules` names can be opened from
/// now on; what is open stays so. To be called before there are other threads, which it does not reach.
///
/// # Errors
///
/// When the process is not in the box. [`Unconfined::Missing`] has changed nothing, unless a filter of system calls lets
/// Landlock be asked for and no more; then it keeps this thread from gaining rights by a set-user-id program.
pub(super) fn confine(rules: &[(BorrowedFd<'_>, Reach)]) -> Result<(), Unconfined> {
    // What does not apply to a file is left out of its rule.
    let rules = rules.iter().map(|(place, reach)| Ok::<_, RulesetError>(PathBeneath::new(place, reach.access())));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        // Later kernels restrict more: moving elsewhere, truncating, devices; TCP; signals and abstract sockets.
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(rules)?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err(Unconfined::Missing),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_box_holds_whatever_the_links_in_it_point_to() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for place in [&inside, &outside] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("file"), "x").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let open = |path: &std::path::Path| File::open(path).unwrap();
        let (own, other) = (open(&inside), open(&outside));
        // The box is for good, so a thread of its own goes into it.
        let tried = std::thread::spawn(move || {
            confine(&[(own.as_fd(), Reach::Change), (other.as_fd(), Reach::List)]).unwrap();
            [
                std::fs::write(inside.join("new"), "x").is_ok(),
                std::fs::read(inside.join("file")).is_ok(),
                std::fs::read_dir(inside.join("link")).is_ok(),
                std::fs::read(inside.join("link/file")).is_ok(),
                std::fs::write(inside.join("link/new"), "x").is_ok(),
                std::fs::remove_file(outside.join("file")).is_ok(),
                std::fs::read_dir("/").is_ok(),
            ]
        });
        assert_eq!(tried.join().unwrap(), [true, true, true, false, false, false, false]);
    }

    #[test]
    fn a_rule_about_a_file_allows_what_is_about_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tried = std::thread::spawn(move || {
            confine(&[(file.as_fd(), Reach::Change)]).unwrap();
            let refused =
                TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
            (std::fs::write(&path, "y").is_ok(), std::fs::remove_file(&path).is_ok(), refused)
        });
        let (written, removed, refused) = tried.join().unwrap();
        assert!(written && !removed);
        let kernel = rustix::system::uname();
        let version: Vec<u32> =
            kernel.release().to_str().unwrap().split('.').take(2).map(|part| part.parse().unwrap()).collect();
        assert_eq!(refused, version >= vec![6, 7], "Linux 6.7 and later restrict TCP");
    }
}
