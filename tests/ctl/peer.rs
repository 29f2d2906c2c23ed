//! The other end of the socket as a test wants it: it answers each call as it is told, and keeps what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Peer {
    pub(crate) path: PathBuf,
    _directory: TempDir,
    calls: Arc<Mutex<Vec<(String, Value)>>>,
}

/// An error of the interface, by its name.
pub(crate) fn error(name: &str, parameters: Value) -> Value {
    json!({ "error": format!("io.synkler.Control.{name}"), "parameters": parameters })
}

impl Peer {
    /// `answer` gives the reply to a method and its parameters: the reply's parameters, or what [`error`] makes. It
    /// says who it is by itself, as a daemon of this version.
    pub(crate) fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&calls), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (kept, answer, mut stream) = (Arc::clone(&kept), Arc::clone(&answer), stream.unwrap());
                thread::spawn(move || {
                    let requests = BufReader::new(stream.try_clone().unwrap()).split(0);
                    for request in requests.map_while(Result::ok) {
                        let call: Value = serde_json::from_slice(&request).unwrap();
                        let method = call["method"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
                        let reply = if method == "GetInfo" {
                            let version = env!("CARGO_PKG_VERSION");
                            json!({ "vendor": "", "product": "", "version": version, "url": "", "interfaces": [] })
                        } else {
                            kept.lock().unwrap().push((method.clone(), call["parameters"].clone()));
                            answer(&method, &call["parameters"])
                        };
                        let reply = if reply.get("error").is_some() { reply } else { json!({ "parameters": reply }) };
                        // A client may have gone by now.
                        let _ = stream.write_all(format!("{reply}\0").as_bytes());
                    }
                });
            }
        });
        Self { path, _directory: directory, calls }
    }

    /// What it was asked since the last time.
    pub(crate) fn calls(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}
