//! Which rsync options an operator may add. Options that do not affect the Promise pass. Options that synkler handles
//! itself are left out. Options that would break the Promise are refused by name. Options of future rsync versions are
//! refused until they have been examined.

use super::rsync_table::{Verdict, table};
use super::shown_value;
use crate::machine::Keep;

/// The maximum number of words in `rsync_opts`.
const WORD_LIMIT: usize = 64;

#[derive(Debug, Clone, Copy)]
struct RsyncOption {
    /// The name for rsync.
    name: &'static str,
    takes_value: bool,
    verdict: Verdict,
}

/// The result for `rsync_opts`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// The options for rsync: one per word, values after `=`.
    pub(super) options: Vec<String>,
    /// The extras that options ask for.
    pub(super) keep: Keep,
    /// The options that were left out, and why.
    pub(super) left_out: Vec<String>,
    /// The refused options, and why.
    pub(super) problems: Vec<String>,
}

/// Classifies the words of `rsync_opts`. An option's value may follow in the same word or be the next word. A problem
/// names the option and never its value.
pub(super) fn judge(words: &[String]) -> Judged {
    let mut judged = Judged::default();
    if words.len() > WORD_LIMIT {
        judged.problems.push(format!("found {} options, allowed are up to {WORD_LIMIT}", words.len()));
        return judged;
    }
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word.contains('\0') {
            judged.problems.push("found a NUL character, allowed is any other".to_owned());
        } else if word.starts_with("--") && word != "--" {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), None),
            };
            judged.option(name, value, || words.next().cloned());
        } else if let Some(cluster) = word.strip_prefix('-').filter(|cluster| !cluster.is_empty() && word != "--") {
            judged.cluster(cluster, &mut words);
        } else {
            judged.problems.push(format!(
                "found {}, allowed are options, which begin with -; synkler names the files itself",
                shown_value(word)
            ));
        }
    }
    judged
}

impl Judged {
    /// Options of one letter, several in one word: `-az`, or with a value at the end, `-e ssh`.
    fn cluster(&mut self, cluster: &str, words: &mut std::slice::Iter<'_, String>) {
        for (at, letter) in cluster.char_indices() {
            let name = format!("-{letter}");
            let rest = cluster.get(at + letter.len_utf8()..).unwrap_or_default();
            if lookup(&name).is_some_and(|option| option.takes_value) {
                let value = Some(rest.strip_prefix('=').unwrap_or(rest).trim_start()).filter(|value| !value.is_empty());
                self.option(&name, value, || words.next().cloned());
                return;
            }
            self.option(&name, None, || None);
        }
    }

    fn option(&mut self, name: &str, value: Option<&str>, next: impl FnOnce() -> Option<String>) {
        let shown = name.escape_debug();
        let Some(option) = lookup(name) else {
            self.problems.push(format!("found {shown}, which synkler does not know and does not allow"));
            return;
        };
        let value = if option.takes_value { value.map(str::to_owned).or_else(next) } else { value.map(str::to_owned) };
        match (option.verdict, value) {
            (Verdict::Refused(why), _) => self.problems.push(format!("found {shown}, which is not allowed: {why}")),
            (_, None) if option.takes_value => self.problems.push(format!("found {shown} without its value")),
            (_, Some(_)) if !option.takes_value => {
                self.problems.push(format!("found {shown} with a value, but it takes none"));
            }
            (Verdict::Keeps(extra), _) => self.keep = self.keep.with(extra),
            (Verdict::LeftOut(why), _) => self.left_out.push(format!("{shown} is ignored: {why}")),
            (Verdict::Passes, Some(value)) => self.options.push(format!("{}={value}", option.name)),
            (Verdict::Passes, None) => self.options.push(option.name.to_owned()),
        }
    }
}

fn lookup(name: &str) -> Option<RsyncOption> {
    table().find(|(names, _)| names.split(' ').any(|known| known.trim_end_matches('=') == name)).map(
        |(names, verdict)| {
            let first = names.split(' ').next().unwrap_or(names);
            RsyncOption { name: first.trim_end_matches('='), takes_value: names.contains('='), verdict }
        },
    )
}

/// Splits comma-separated values as Python's `csv` does, then trims each and drops empty ones. A line end separates
/// too, so that the value may continue over several lines.
pub(super) fn split_csv(text: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    // Quotes have a meaning only at the beginning of a field; blanks before them do not count.
    let mut begun = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if !begun => (quoted, begun) = (true, true),
            ',' | '\n' if !quoted => {
                fields.push(std::mem::take(&mut field));
                begun = false;
            }
            ' ' if !begun => {}
            _ => {
                begun = true;
                field.push(c);
            }
        }
    }
    if quoted {
        return Err("found a quote that is not closed, allowed is a comma-separated list".to_owned());
    }
    fields.push(field);
    Ok(fields.iter().map(|field| field.trim()).filter(|field| !field.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::machine::Extra;

    fn words(words: &[&str]) -> Judged {
        judge(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_harmless_passes_in_one_form() {
        let judged = words(&["-avz", "-e ssh -p 22", "--bwlimit", "5m", "--zl=3", "-B1000", "-B", "8", "-4", "-e=x"]);
        let options = [
            "--compress",
            "--rsh=ssh -p 22",
            "--bwlimit=5m",
            "--compress-level=3",
            "--block-size=1000",
            "--block-size=8",
            "--ipv4",
            "--rsh=x",
        ];
        assert_eq!(judged.options, options);
        assert_eq!(judged.left_out.len(), 2, "{:?}", judged.left_out);
        assert!(judged.problems.is_empty(), "{:?}", judged.problems);
    }

    #[test]
    fn extras_are_asked_for_by_either_name() {
        let judged = words(&["-aHAX", "--sparse", "--no-acls"]);
        assert_eq!(judged.keep, Extra::ALL.into_iter().collect());
        assert_eq!((judged.options.len(), judged.problems.len(), judged.left_out.len()), (0, 0, 2), "{judged:?}");
    }

    #[test]
    fn what_breaks_the_promise_is_refused_by_name() {
        for (word, name) in [
            ("--remove-source-files", "--remove-source-files"),
            ("-avn", "-n"),
            ("--delete-after", "--delete-after"),
            ("--exclude=secret", "--exclude"),
            ("-f- secret", "-f"),
            ("-T/secret", "-T"),
            ("--no-times", "--no-times"),
            ("--no-t", "--no-t"),
            ("--contimeout=3", "--contimeout"),
            ("--inplace", "--inplace"),
            ("--quux", "--quux"),
            ("-Q", "-Q"),
            ("--compress=3", "--compress"),
            ("--bwlimit", "--bwlimit"),
            ("-ze", "-e"),
            ("--", "--"),
            ("-", "-"),
            ("host:x", "host:x"),
            ("", ""),
        ] {
            let judged = words(&[word]);
            let [problem] = judged.problems.as_slice() else { panic!("{word}: {judged:?}") };
            assert!(problem.contains(name), "{word}: {problem}");
            assert!(!problem.contains("secret"), "{word}: {problem}");
        }
        // The value of a refused option is skipped with it, so that it is not reported as a file.
        assert_eq!(words(&["--exclude", "x", "-T", "/y"]).problems.len(), 2);
    }

    #[test]
    fn every_option_of_the_installed_rsync_is_judged() {
        let output = Command::new("rsync").arg("--help").output().expect("rsync is installed");
        let help = String::from_utf8_lossy(&output.stdout);
        let mut seen = 0;
        for line in help.lines().filter(|line| line.starts_with('-')) {
            let (names, meaning) = line.split_once("  ").unwrap_or((line, ""));
            let mut own_names: Vec<&str> = names.split(", ").map(|name| name.trim().trim_end_matches(" (*)")).collect();
            let alias = meaning.split_once("(aka ").and_then(|(_, rest)| rest.split_once(')'));
            own_names.extend(alias.map(|(alias, _)| alias));
            let takes_value = names.contains('=');
            for name in own_names {
                let name = name.split(['=', '[']).next().unwrap();
                if name == "--no-OPTION" {
                    continue;
                }
                let option = lookup(name).unwrap_or_else(|| panic!("{name} is not judged"));
                assert_eq!(option.takes_value, takes_value, "{name}");
                seen += 1;
            }
        }
        assert!(seen > 150, "{seen} names in rsync --help");
    }

    #[test]
    fn the_installed_rsync_knows_every_option_that_passes() {
        // An older rsync lacks the newest options, and its help does not name them.
        let help = Command::new("rsync").arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let mut missing = Vec::new();
        for (names, _) in table().filter(|(_, verdict)| *verdict == Verdict::Passes) {
            let option = lookup(names.split(' ').next().unwrap().trim_end_matches('=')).unwrap();
            let value = match option.name {
                "--compress-choice" => "zlib",
                "--sockopts" => "TCP_NODELAY",
                "--rsh" | "--rsync-path" => "ssh",
                "--skip-compress" => "gz",
                "--max-alloc" => "1g",
                _ => "1000",
            };
            let word = if option.takes_value { format!("{}={value}", option.name) } else { option.name.to_owned() };
            let output = Command::new("rsync").args([&word, "--version"]).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            if stderr.contains("unknown option") && !help.contains(option.name) {
                missing.push(option.name);
                continue;
            }
            assert!(output.status.success(), "{word}: {stderr}");
        }
        assert!(missing.len() < 10, "this rsync lacks {missing:?}");
    }

    #[test]
    fn no_name_is_judged_twice() {
        let mut names: Vec<_> =
            table().flat_map(|(names, _)| names.split(' ')).map(|n| n.trim_end_matches('=')).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn lists_are_split_as_python_splits_them() {
        let texts = [
            "",
            "a",
            "a,b",
            "a, b ,c",
            ",,",
            "\"a,b\",c",
            "\"a\"\"b\"",
            "a\"b\",c",
            "\"a\"b,c",
            " \"a,b\"",
            "a b,\"c d\"",
            "--rsh=ssh -p 22,--bwlimit=5",
            "\"--rsh=ssh -o \"\"X Y\"\"\",-z",
            "'a,b'",
            "é,\"ü,\"",
        ];
        const SCRIPT: &str = "
import csv, json, sys
rows = [next(csv.reader([text], skipinitialspace=True), []) for text in json.load(sys.stdin)]
json.dump([[field.strip() for field in row if field.strip()] for row in rows], sys.stdout)
";
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(&texts).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        let expected: Vec<Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(split_csv(text), Ok(expected), "{text:?}");
        }
        assert!(split_csv("\"a,b").is_err());
        assert_eq!(split_csv("a,\nb\nc").unwrap(), ["a", "b", "c"]);
    }
}
