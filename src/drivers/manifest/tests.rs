use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use super::*;

fn name(bytes: &[u8]) -> ItemName {
    ItemName::new(bytes).unwrap()
}

fn site(dir: &Path, item: &[u8]) -> Site {
    Site::open(dir, &name(item)).unwrap()
}

fn write(path: PathBuf, content: &[u8], mode: u32) {
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory with one entry of each kind that an item may contain.
fn sample(dir: &Path) -> PathBuf {
    let item = dir.join("item");
    for sub in ["a", "a/deep", "empty"] {
        fs::create_dir_all(item.join(sub)).unwrap();
        fs::set_permissions(item.join(sub), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&item, fs::Permissions::from_mode(0o750)).unwrap();
    write(item.join("a/deep/run me"), b"#!/bin/sh\n", 0o755);
    write(item.join("a.b"), b"hello", 0o640);
    write(item.join("!first"), b"", 0o600);
    write(item.join(OsStr::from_bytes(b"\xff\n%")), &[7; 200_000], 0o644);
    symlink("a.b", item.join("link")).unwrap();
    symlink("/no where/\u{e9}", item.join("dangling")).unwrap();
    item
}

/// The output of the real `md5sum` for each regular file.
fn md5sum(item: &Path, survey: &Survey) -> BTreeMap<Vec<u8>, String> {
    let sum = |entry: &Entry| {
        let file = fs::File::open(item.join(OsStr::from_bytes(&entry.path))).unwrap();
        let output = Command::new("md5sum").stdin(file).output().unwrap();
        (entry.path.to_vec(), String::from_utf8(output.stdout).unwrap()[..32].to_owned())
    };
    survey.files().map(sum).collect()
}

#[test]
fn a_file_is_proven_by_what_md5sum_prints() {
    let dir = tempfile::tempdir().unwrap();
    for (item, content) in [(&b"a b"[..], vec![]), (b"\xff", vec![b'x'; 65_536]), (b"-rf", vec![9; 70_001])] {
        let path = dir.path().join(OsStr::from_bytes(item));
        fs::write(&path, &content).unwrap();
        let site = site(dir.path(), item);
        let survey = site.survey().unwrap();
        let digest = site.prove(&survey, &mut |_| {}).unwrap();
        let output = Command::new("md5sum").stdin(fs::File::open(&path).unwrap()).output().unwrap();
        assert_eq!(digest.to_string().as_bytes(), &output.stdout[..32]);
        assert_eq!((survey.kind(), survey.size()), (Some(Kind::File), content.len() as u64));
        assert_eq!(survey.inode(), path.metadata().unwrap().ino());
    }
}

#[test]
fn a_directory_is_proven_by_its_manifest_text() {
    let dir = tempfile::tempdir().unwrap();
    let item = sample(dir.path());
    let site = site(dir.path(), b"item");
    let survey = site.survey().unwrap();
    let mut text = String::new();
    let digest = site.prove(&survey, &mut |line| text.push_str(line)).unwrap();
    let sums = md5sum(&item, &survey);
    let sum = |path: &[u8]| sums[path].as_str();
    let expected = [
        format!("f 0 {} !first\n", sum(b"!first")),
        "d - - .\n".to_owned(),
        "d - - a\n".to_owned(),
        format!("f 5 {} a.b\n", sum(b"a.b")),
        "d - - a/deep\n".to_owned(),
        format!("f 10 {} a/deep/run%20me\n", sum(b"a/deep/run me")),
        "l - /no%20where/\u{e9} dangling\n".to_owned(),
        "d - - empty\n".to_owned(),
        "l - a.b link\n".to_owned(),
        format!("f 200000 {} %FF%0A%25\n", sum(b"\xff\n%")),
    ];
    assert_eq!(text, expected.concat());
    assert_eq!(digest, Digest(Md5::digest(&text).into()));
    assert_eq!(survey.size(), 200_015);
    assert_eq!(survey.entries().len(), 10);
}

#[test]
fn a_symbolic_link_is_an_item_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    let site = site(dir.path(), b"link");
    let survey = site.survey().unwrap();
    assert_eq!((survey.kind(), survey.size()), (Some(Kind::Symlink), 0));
    let digest = site.prove(&survey, &mut |_| {}).unwrap();
    assert_eq!(digest, Digest(Md5::digest(b"l - nowhere .\n").into()));
}

#[test]
fn every_touch_changes_the_signature() {
    let dir = tempfile::tempdir().unwrap();
    let item = sample(dir.path());
    let site = site(dir.path(), b"item");
    let deep = item.join("a/deep/run me");
    let touches: [&dyn Fn(); 6] = [
        &|| fs::write(&deep, b"#!/bin/bh\n").unwrap(),
        &|| fs::set_permissions(&deep, fs::Permissions::from_mode(0o700)).unwrap(),
        &|| fs::rename(&deep, item.join("a/deep/other")).unwrap(),
        &|| fs::create_dir(item.join("empty/new")).unwrap(),
        &|| fs::remove_file(item.join("dangling")).unwrap(),
        &|| {
            let (old, new) = (item.join("a.b"), item.join("fresh"));
            fs::copy(&old, &new).unwrap();
            fs::rename(&new, &old).unwrap();
        },
    ];
    let mut before = site.survey().unwrap();
    assert_eq!(site.survey().unwrap(), before);
    for (number, touch) in touches.into_iter().enumerate() {
        // Two changes within one tick of the file system's clock look the same in stat.
        while before.is_fresh(SystemTime::now(), Duration::from_millis(25)) {
            std::thread::yield_now();
        }
        touch();
        let after = site.survey().unwrap();
        assert_ne!(after.signature(), before.signature(), "touch {number}");
        assert!(!after.same_but_moved(&before), "touch {number}");
        before = after;
    }
    assert!(before.is_fresh(SystemTime::now(), Duration::from_secs(3600)));
    fs::rename(&item, dir.path().join("moved")).unwrap();
    assert_eq!(site.survey(), Err(SurveyError::Gone));
    let moved = Site::open(dir.path(), &name(b"moved")).unwrap().survey().unwrap();
    assert!(moved.same_but_moved(&before));
}

#[test]
fn what_changes_between_survey_and_reading_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let item = sample(dir.path());
    let site = site(dir.path(), b"item");
    let survey = site.survey().unwrap();
    let proof = || site.prove(&survey, &mut |_| {});
    let file = item.join("a/deep/run me");
    let refused = |what: &str| {
        let Err(SurveyError::Changed(path)) = proof() else { panic!("{what}: {:?}", proof()) };
        assert!(path.ends_with("item/a/deep/run me"), "{what}: {path}");
    };
    fs::write(&file, "longer than before").unwrap();
    refused("grown");
    fs::write(&file, "short").unwrap();
    refused("shrunk");
    fs::remove_file(&file).unwrap();
    refused("gone");
    rustix::fs::mkfifoat(CWD, &file, Mode::RWXU).unwrap();
    refused("a fifo");
    fs::remove_file(&file).unwrap();
    symlink("/etc/passwd", &file).unwrap();
    refused("a link");
    fs::remove_dir_all(item.join("a/deep")).unwrap();
    symlink("/", item.join("a/deep")).unwrap();
    refused("a link on the way");
}

#[test]
fn special_files_are_named_and_make_every_digest_unequal() {
    let dir = tempfile::tempdir().unwrap();
    let item = sample(dir.path());
    let site = site(dir.path(), b"item");
    rustix::fs::mkfifoat(CWD, item.join("a/pipe"), Mode::RWXU).unwrap();
    let survey = site.survey().unwrap();
    assert_eq!(survey.special().map(|entry| &*entry.path), Some(&b"a/pipe"[..]));
    let mut text = String::new();
    site.prove(&survey, &mut |line| text.push_str(line)).unwrap();
    assert!(text.contains("x - - a/pipe\n"), "{text}");
}

#[test]
fn deep_trees_end_in_words_and_not_in_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let item = dir.path().join("item");
    fs::create_dir(&item).unwrap();
    let mut at = rustix::fs::open(&item, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let deepen = |at: &OwnedFd| {
        rustix::fs::mkdirat(at, "d", Mode::RWXU).unwrap();
        openat(at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let site = site(dir.path(), b"item");
    for _ in 0..1_500 {
        at = deepen(&at);
    }
    let survey = site.survey().unwrap();
    assert_eq!(survey.entries().len(), 1_501);
    site.prove(&survey, &mut |_| {}).unwrap();
    for _ in 0..1_500 {
        at = deepen(&at);
    }
    let error = site.survey().unwrap_err();
    assert!(matches!(error, SurveyError::TooLong(_)));
    assert!(error.to_string().len() < 300, "{error}");
    // The removal of the tempdir would open every level at once.
    assert!(Command::new("rm").arg("-r").arg(&item).status().unwrap().success());
}

#[test]
#[allow(clippy::print_stdout)] // The figure is for whoever runs it with --nocapture.
fn ten_thousand_files_are_surveyed_quickly() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    for sub in 0..100 {
        let sub = dir.path().join(format!("item/{sub}"));
        fs::create_dir_all(&sub).unwrap();
        (0..100).for_each(|file| fs::write(sub.join(format!("{file}")), "0123456789").unwrap());
    }
    let site = site(dir.path(), b"item");
    let start = std::time::Instant::now();
    let survey = site.survey().unwrap();
    let surveyed = start.elapsed();
    site.prove(&survey, &mut |_| {}).unwrap();
    println!("10,000 files: surveyed in {surveyed:?}, proven in {:?}", start.elapsed() - surveyed);
    assert_eq!((survey.entries().len(), survey.size()), (10_101, 100_000));
    assert!(start.elapsed() < Duration::from_secs(60));
}
