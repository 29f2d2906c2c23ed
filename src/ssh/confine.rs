//! The sandbox of a process, by Landlock. After [`confine`], this process and the program that it becomes can open,
//! create and remove only what is below the given directories, whether by links or not. It opens no TCP connection and
//! sends no signal to processes outside. The kernel does not restrict what needs no opening: looking at metadata,
//! changing modes or times.

use std::error::Error;
use std::io;
use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};
use rustix::io::Errno;

/// What a process in the sandbox may do with a file, or with everything below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// List directories.
    List,
    /// Read files and list directories.
    Read,
    /// The same, and start programs.
    Run,
    /// Read, write, create and remove files, directories and links.
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

/// Why a process is not in its sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// The kernel has no Landlock or does not use it, or a system call filter of a container blocks it.
    #[error("the kernel offers no Landlock")]
    Missing,
    /// The kernel has Landlock, and the setup failed.
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

/// Confines this thread, and the program that it becomes, for good: from now on it can open only what `rules` names;
/// open files stay open. Must be called before other threads exist, which it would not confine.
///
/// # Errors
///
/// If the process is not confined. [`Unconfined::Missing`] has changed nothing, with one exception: a system call
/// filter that allows only the query for Landlock. Then this thread can no longer gain rights by a set-user-id program.
pub(super) fn confine(rules: &[(BorrowedFd<'_>, Reach)]) -> Result<(), Unconfined> {
    // Rights that do not apply to a file are left out of its rule.
    let rules = rules.iter().map(|(place, reach)| Ok::<_, RulesetError>(PathBeneath::new(place, reach.access())));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        // Later kernels restrict more: moves to other directories, truncation, devices, TCP, signals and abstract
        // sockets.
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
        // The sandbox is for good, so the test confines a thread of its own.
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
