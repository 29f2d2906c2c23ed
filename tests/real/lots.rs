//! `%@`: one cleanup script for several items, each of which is judged by itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::bed::node::wait_for;
use crate::bed::{Bed, tree};

const LONG: Duration = Duration::from_secs(180);
const ITEMS: usize = 300;

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What the scripts have written: how many items each got, and what else they were told.
fn runs(file: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let run = |line: &str| {
        let (count, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        (count.parse().unwrap(), rest.to_owned())
    };
    text.lines().map(run).collect()
}

#[test]
fn few_scripts_clean_up_many_items_and_one_bad_item_fails_alone() {
    let bed = Bed::new();
    let (sent, arrived) = (bed.side("sent"), bed.side("arrived"));
    let mover = |name: &str, to: &Path| {
        let log = bed.side("runs").join(name);
        // It fails for the bad item, after it has moved the others.
        let text = format!(
            "echo \"$# $SYNKLER_COUNT $SYNKLER_MODE ${{SYNKLER_ITEM-unset}}\" >> '{}'\n\
             for item; do case $item in */bad) [ -e '{}' ] || bad=1 ;; *) mv -n -t '{}' -- \"$item\" || exit 2 ;; esac; done\n\
             [ -z \"$bad\" ] || {{ echo it is bad >&2; exit 1; }}\n\
             for item; do case $item in */bad) mv -n -t '{}' -- \"$item\" ;; esac; done",
            log.display(),
            bed.side("mended").join("yes").display(),
            to.display(),
            to.display()
        );
        (bed.script(name, &text), log)
    };
    let ((up, up_runs), (down, down_runs)) = (mover("up", &sent), mover("down", &arrived));
    let setting = |script: &Path| format!("cleanup_script = [{script:?}, \"%@\"]\n");
    let mut upload = bed.upload("up", &format!("settle_seconds = 0\n{}", setting(&up)));
    let mut central = bed.central("mid", "keep_minutes = 0\n");
    let mut download = bed.download("down", &setting(&down));
    let workshop = tree::workshop(&upload.file_dir);
    let hostile = ["-rf *", "a b;c", "$(x)\n", "'\"", "bad"];
    let expected: BTreeSet<String> = hostile
        .iter()
        .map(|name| (*name).to_owned())
        .chain((0..ITEMS).map(|number| format!("item-{number}")))
        .collect();
    for name in &expected {
        fs::write(workshop.join(name), name).unwrap();
        fs::rename(workshop.join(name), upload.file_dir.join(name)).unwrap();
    }
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    let good: BTreeSet<_> = expected.iter().filter(|name| *name != "bad").cloned().collect();
    let moved = || names(&sent).len() >= good.len() && names(&arrived).len() >= good.len();
    assert!(wait_for(LONG, moved), "{:#}\n{:#}", upload.status(20), download.status(20));
    assert_eq!((names(&sent), names(&arrived)), (good.clone(), good));
    for node in [&upload, &download] {
        node.until_reason(LONG, "cleanup", "it is bad");
        node.until(LONG, "left with the bad item", |status| status["total"] == 1);
    }
    for log in [&up_runs, &down_runs] {
        let runs = runs(log);
        let joint: Vec<_> = runs.iter().filter(|(items, _)| *items > 1).collect();
        let (scripts, items) = (joint.len(), joint.iter().map(|(items, _)| items).sum::<usize>());
        assert!(items >= ITEMS * 9 / 10 && scripts * 8 <= items, "{scripts} scripts for {items} items: {runs:?}");
        for (items, told) in &runs {
            assert!(told.starts_with(&format!("{items} ")) && told.ends_with(" unset"), "{told}");
        }
        // The bad one failed with others, and then alone.
        assert!(runs.iter().any(|(items, _)| *items == 1), "{runs:?}");
    }
    fs::write(bed.side("mended").join("yes"), "").unwrap();
    // For the whole group.
    assert!(upload.ctl().args(["retry", "bad"]).status().unwrap().success());
    [&upload, &download].into_iter().for_each(|node| node.until_idle(LONG));
    assert_eq!((names(&sent), names(&arrived)), (expected.clone(), expected));
    assert_eq!(names(&upload.file_dir).into_iter().filter(|name| !name.starts_with('.')).count(), 0);
}

#[test]
fn a_script_is_told_what_is_known_of_its_item() {
    let bed = Bed::new();
    let told = bed.side("told");
    let script = |name: &str| {
        let text = format!("env | grep ^SYNKLER_ | sort > '{}'\nrm -- \"$1\"", told.join(name).display());
        format!("cleanup_script = [{:?}, \"%F\"]\n", bed.script(name, &text))
    };
    let mut upload = bed.upload("up", &format!("settle_seconds = 0\n{}", script("up")));
    let mut central = bed.central("mid", "keep_minutes = 0\n");
    let mut download = bed.download("down", &script("down"));
    for node in [&mut central, &mut download, &mut upload] {
        node.start();
    }
    tree::hand_in(&upload.file_dir, b"a b", b"content");
    upload.until(LONG, "through", |_| told.join("up").exists() && told.join("down").exists());
    [&upload, &download].into_iter().for_each(|node| node.until_idle(LONG));
    for (name, node) in [("up", &upload), ("down", &download)] {
        let text = fs::read_to_string(told.join(name)).unwrap();
        let md5 = "9a0364b9e99bb480dd25e1f0284c8555";
        let path = format!("SYNKLER_PATH={}/a b", node.file_dir.display());
        let mode = format!("SYNKLER_MODE={}", node.mode);
        let wanted = [
            "SYNKLER_COUNT=1",
            "SYNKLER_GROUP=default",
            "SYNKLER_ITEM=a b",
            &format!("SYNKLER_MD5={md5}"),
            &mode,
            &format!("SYNKLER_NODE={name}"),
            &path,
            "SYNKLER_SIZE=7",
            "SYNKLER_UPLOAD=up",
        ];
        for line in wanted {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("SYNKLER_TRANSFER="), "{text}");
        assert_eq!(text.contains("SYNKLER_RECEIVERS=down\n"), name == "up", "{text}");
    }
}
