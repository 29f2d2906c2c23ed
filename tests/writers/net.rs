//! Writers that come over the network.

use std::fs;
use std::process::{Command, Stdio};

use crate::judge::{Content, Intent};
use crate::task::Task;

/// curl into vsftpd. A client that was killed starts again.
pub fn ftp(task: &mut Task<'_>) -> Intent {
    let (name, bytes) = (task.name.clone(), task.hand.bytes());
    let (part, url) = (format!("{name}.part"), format!("ftp://127.0.0.1:{}/{name}.part", task.place.ftp()));
    let mut kill = task.hand.one_in(3);
    loop {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-T", "-", &url, "-Q", &format!("-RNFR {part}"), "-Q", &format!("-RNTO {name}")]);
        match task.feed(&mut curl, &bytes, kill) {
            Some(status) => assert!(status.success(), "{curl:?}: {status}"),
            None => {
                kill = false;
                continue;
            }
        }
        return task.intent(Content::of_bytes(&bytes));
    }
}

/// smbclient into smbd. A client that was killed starts again.
pub fn smb(task: &mut Task<'_>) -> Intent {
    let (name, bytes) = (task.name.clone(), task.hand.bytes());
    let mut kill = task.hand.one_in(3);
    loop {
        let mut client = Command::new("smbclient");
        client.args(["//127.0.0.1/drop", "-N", "-s", "/dev/null", "-p", &task.place.smb().to_string(), "-c"]);
        client.arg(format!("put /dev/stdin {name}.part; rename {name}.part {name}"));
        client.stdout(Stdio::null()).stderr(Stdio::null());
        match task.feed(&mut client, &bytes, kill) {
            Some(status) => assert!(status.success(), "{client:?}: {status}"),
            None => {
                kill = false;
                continue;
            }
        }
        return task.intent(Content::of_bytes(&bytes));
    }
}

/// sftp into an sftp-server. A session that was killed starts again.
pub fn sftp(task: &mut Task<'_>) -> Intent {
    let (name, bytes) = (task.name.clone(), task.hand.bytes());
    let (source, batch) = (task.place.work.join(&name), task.place.work.join(format!("{name}.batch")));
    let part = task.target(".part");
    fs::write(&source, &bytes).unwrap();
    let (from, to, last) = (source.display(), part.display(), task.target("").display().to_string());
    fs::write(&batch, format!("put {from} {to}\nrename {to} {last}\n")).unwrap();
    let mut kill = task.hand.one_in(3);
    loop {
        let mut sftp = Command::new("sftp");
        // Small requests one by one, as on a slow line.
        sftp.args(["-q", "-B", "256", "-R", "1", "-D", "/usr/lib/openssh/sftp-server", "-b"]).arg(&batch);
        let child = sftp.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        match task.hand.stutter(child, &part, kill) {
            Some(status) => assert!(status.success(), "{sftp:?}: {status}"),
            None => {
                kill = false;
                continue;
            }
        }
        return task.intent(Content::of_bytes(&bytes));
    }
}

/// wget from a server that breaks off, and killed itself now and then, until all is there.
pub fn wget(task: &mut Task<'_>) -> Intent {
    let (name, bytes) = (task.name.clone(), task.hand.bytes());
    fs::write(task.place.work.join(&name), &bytes).unwrap();
    let part = task.target(".part");
    let url = format!("http://127.0.0.1:{}/{name}", task.place.web.port);
    loop {
        let kill = task.hand.one_in(4);
        let mut wget = Command::new("wget");
        wget.args(["-q", "--no-config", "--no-proxy", "--tries=1", "-c", "-O"]).arg(&part).arg(&url);
        let child = wget.stdin(Stdio::null()).spawn().unwrap();
        if task.hand.stutter(child, &part, kill).is_some_and(|status| status.success()) {
            break;
        }
    }
    task.rename(".part", "");
    task.intent(Content::of_bytes(&bytes))
}
