//! Private servers that write into a `file_dir`: vsftpd and smbd, and a web server to fetch from.

#![allow(clippy::disallowed_methods, reason = "a slow web server is a part of what is tested")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::bed::node::wait_for;
use crate::bed::sshd::{self, free_port};
use crate::hand::Hand;

/// A server that ends when it is dropped, and also when the test program is killed.
pub struct Server {
    pub port: u16,
    keeper: Child,
}

impl Server {
    /// Starts one on a free port; `prepare` writes its config and returns its command.
    fn start(prepare: impl Fn(u16) -> Command) -> Self {
        for _ in 0..5 {
            let port = free_port();
            let command = prepare(port);
            let mut keeper = Command::new("/bin/sh")
                .args(["-c", "\"$@\" & read -r _; kill $!; wait", "sh"])
                .arg(command.get_program())
                .args(command.get_args())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                // smbd and vsftpd end with their whole process group.
                .process_group(0)
                .spawn()
                .unwrap();
            if wait_for(Duration::from_secs(10), || TcpStream::connect((sshd::HOST, port)).is_ok()) {
                return Self { port, keeper };
            }
            drop(keeper.kill());
            drop(keeper.wait());
        }
        panic!("the server does not start");
    }

    /// An FTP server for everybody.
    pub fn ftp(dir: &Path, root: &Path) -> Self {
        let (config, empty) = (dir.join("vsftpd.conf"), dir.join("vsftpd-empty"));
        fs::create_dir_all(&empty).unwrap();
        Self::start(|port| {
            let (root, empty) = (root.display(), empty.display());
            let text = format!(
                "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nrun_as_launching_user=YES\n\
                 max_per_ip=0\nanonymous_enable=YES\nno_anon_password=YES\nanon_root={root}\nwrite_enable=YES\n\
                 allow_writeable_chroot=YES\nanon_upload_enable=YES\nanon_other_write_enable=YES\n\
                 secure_chroot_dir={empty}\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nxferlog_enable=NO\n"
            );
            fs::write(&config, text).unwrap();
            let mut command = Command::new("/usr/sbin/vsftpd");
            command.arg(&config);
            command
        })
    }

    /// The share `drop` for everybody. Only root can start smbd.
    pub fn smb(dir: &Path, root: &Path) -> Self {
        let (config, state) = (dir.join("smb.conf"), dir.join("smb"));
        fs::create_dir_all(&state).unwrap();
        Self::start(|port| {
            let mut text = format!(
                "[global]\nserver role = standalone server\nmap to guest = Bad User\nguest account = root\n\
                 interfaces = 127.0.0.1\nbind interfaces only = yes\ndisable netbios = yes\ndisable spoolss = yes\n\
                 load printers = no\nprintcap name = /dev/null\nsmb ports = {port}\n"
            );
            for key in ["private dir", "lock directory", "state directory", "cache directory", "pid directory"] {
                text.push_str(&format!("{key} = {}\n", state.display()));
            }
            let (rpc, log, root) = (state.join("rpc"), state.join("log"), root.display());
            text.push_str(&format!("ncalrpc dir = {}\nlog file = {}\n", rpc.display(), log.display()));
            text.push_str(&format!("[drop]\npath = {root}\nguest ok = yes\nread only = no\n"));
            fs::write(&config, text).unwrap();
            let mut command = Command::new("/usr/sbin/smbd");
            command.args(["--foreground", "--no-process-group", "-s"]).arg(&config).arg("-l").arg(&state);
            command
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The keeper sees the end of its standard input.
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

/// A web server that pauses and breaks connections off. It ends with the program.
pub struct Web {
    pub port: u16,
}

impl Web {
    /// Serves the files in `dir`, from any offset on.
    pub fn start(dir: &Path, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let dir = Arc::<Path>::from(dir);
        thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming()) {
                let (dir, hand) = (Arc::clone(&dir), Hand::new(seed, "web", number, u32::from(number % 3 == 0)));
                // A client that goes away is what is wanted.
                thread::spawn(move || stream.and_then(|stream| answer(stream, &dir, hand)));
            }
        });
        Self { port }
    }
}

fn answer(mut stream: TcpStream, dir: &Path, mut hand: Hand) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut from = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            from = range.trim().trim_end_matches('-').parse().unwrap();
        }
    }
    // A client that was killed says nothing.
    let Some(name) = request.split(' ').nth(1) else { return Ok(()) };
    let name = name.trim_start_matches('/');
    let bytes = fs::read(dir.join(name))?;
    let all = bytes.len();
    let Some(rest) = bytes.get(from..).filter(|rest| !rest.is_empty()) else {
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{all}\r\n\r\n");
    };
    let length = rest.len();
    let head = match from {
        0 => "HTTP/1.1 200 OK\r\n".to_owned(),
        _ => format!("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{all}\r\n", all - 1),
    };
    write!(stream, "{head}Accept-Ranges: bytes\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    let sent = if hand.one_in(2) { rest.split_at(hand.random.index(length)).0 } else { rest };
    hand.feed(&mut stream, sent)
}
