//! `check`: the daemon checks its node; if it does not run, the `synkler` program in the same directory does.

mod canary;

use std::env;
use std::io::Read;
use std::process::{Command, Stdio};

use super::exit::Exit;
use super::output::Out;
use super::reports::{finding_text, findings_exit, findings_summary};
use super::session::{Failure, Target};
use super::terminal::complain;
use crate::control::ClientError;
use crate::control::types::{Check, Finding};

/// The maximum output of the program that is read, in bytes.
const OUTPUT_LIMIT: u64 = 1024 * 1024;

/// Checks this node, and with `canary` its whole group.
pub(super) fn check(target: &Target, canary: bool, out: Out<'_>) -> Result<Exit, Failure> {
    let (findings, client) = match target.connect() {
        Ok(mut client) => (client.check()?, Some(client)),
        Err(failure @ Failure::Client(ClientError::NotRunning { .. })) => {
            failure.tell();
            complain("the synkler program runs the checks instead, as this user");
            (by_program()?, None)
        }
        Err(failure) => return Err(failure),
    };
    let mut report = Report { out, check: Check { findings: Vec::new() } };
    let running = client.is_some();
    for finding in findings {
        report.add(finding)?;
    }
    match client {
        Some(client) if canary => canary::fly(client, &mut report)?,
        None if canary => report.add(canary::finding("skipped", "the daemon is not running", None))?,
        _ => {}
    }
    report.end()?;
    let exit = findings_exit(&report.check.findings);
    Ok(if running || exit == Exit::Refused { exit } else { Exit::NotRunning })
}

/// Prints findings as they come, or as one document at the end.
struct Report<'a> {
    out: Out<'a>,
    check: Check,
}

impl Report<'_> {
    fn add(&mut self, finding: Finding) -> Result<(), Failure> {
        if !self.out.json {
            self.out.text(|look| finding_text(&finding, look))?;
        }
        self.check.findings.push(finding);
        Ok(())
    }

    /// Progress towards a finding.
    fn step(&self, text: &str) -> Result<(), Failure> {
        if self.out.json { Ok(()) } else { self.out.text(|look| super::reports::step_text(text, look)) }
    }

    fn end(&self) -> Result<(), Failure> {
        self.out.document(&self.check, |_| findings_summary(&self.check.findings))
    }
}

/// The findings of `synkler check`.
fn by_program() -> Result<Vec<Finding>, Failure> {
    let own =
        env::current_exe().map_err(|err| Failure::Refused(format!("cannot find the path of this program: {err}")))?;
    let program = own.with_file_name("synkler");
    let failed = |err: std::io::Error| Failure::Refused(format!("cannot run {program:?}: {err}"));
    let mut child =
        Command::new(&program).arg("check").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(OUTPUT_LIMIT).read_to_end(&mut output).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    match serde_json::from_slice::<Check>(&output) {
        Ok(check) => Ok(check.findings),
        // The program has printed on stderr what is wrong.
        Err(_) if output.is_empty() => Err(Failure::Refused(format!("{program:?} printed no findings: {status}"))),
        Err(err) => Err(Failure::Refused(format!("the output of {program:?} is invalid: {err}"))),
    }
}
