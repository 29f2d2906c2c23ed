//! The monitor stream in its own thread, which reconnects after the daemon has ended.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use crate::cli::terminal::reader_leaves;
use crate::control::types::{Monitor, Shown};
use crate::control::{Client, ClientError};

/// The delay between two attempts to reach the daemon.
const AGAIN: Duration = Duration::from_secs(1);
/// The maximum number of news that wait to be shown.
const QUEUE: usize = 16;

/// News from the daemon.
#[derive(Debug)]
pub(in crate::cli) enum News {
    /// The status, or its changes.
    Answer(Box<Monitor>),
    /// The daemon does not answer any more, for this reason; the feed reconnects.
    Lost(String),
    /// The daemon has never answered, and the feed has ended.
    Failed(ClientError),
    /// The output has no reader any more.
    Unread,
}

/// The receiving end. After it is dropped, the thread ends with its next news.
#[derive(Debug)]
pub(in crate::cli) struct Feed {
    news: Receiver<News>,
    /// Dropped with the feed, which wakes the thread if it waits for a retry.
    _stop: mpsc::Sender<()>,
}

impl Feed {
    /// Starts the feed, first on this connection.
    pub(in crate::cli) fn start(client: Client, what: Shown) -> Self {
        Self::with(client, what, |_| {})
    }

    /// The same for output to stdout: without changes for a long time, a closed output would not be noticed otherwise.
    pub(super) fn until_unread(client: Client, what: Shown) -> Self {
        Self::with(client, what, |sender| {
            thread::spawn(move || {
                if reader_leaves() {
                    // Without a receiver, nothing is reported.
                    drop(sender.send(News::Unread));
                }
            });
        })
    }

    fn with(client: Client, what: Shown, other: impl FnOnce(SyncSender<News>)) -> Self {
        let (sender, news) = mpsc::sync_channel(QUEUE);
        let (stop, stopped) = mpsc::channel();
        other(sender.clone());
        thread::spawn(move || listen(client, what, &sender, &stopped));
        Self { news, _stop: stop }
    }

    /// Waits for the next news; `None` if none can come any more.
    pub(in crate::cli) fn wait(&self) -> Option<News> {
        self.news.recv().ok()
    }

    /// The next news within this time, if any.
    pub(in crate::cli) fn wait_for(&self, time: Duration) -> Option<News> {
        self.news.recv_timeout(time).ok()
    }

    /// The next news, without waiting.
    pub(in crate::cli) fn take(&self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

/// Ends when the receiver is dropped.
fn listen(client: Client, what: Shown, sender: &SyncSender<News>, stopped: &Receiver<()>) {
    let path: PathBuf = client.path().to_owned();
    let mut answered = false;
    let mut next = Ok(client);
    loop {
        let error = match next.and_then(|client| client.monitor(what)) {
            Err(error) => error,
            Ok(stream) => {
                let mut broken = None;
                for answer in stream {
                    match answer {
                        Ok(answer) => {
                            answered = true;
                            if sender.send(News::Answer(Box::new(answer))).is_err() {
                                return;
                            }
                        }
                        Err(error) => broken = Some(error),
                    }
                }
                // A stream that ends without an error ends with the daemon.
                broken.unwrap_or_else(|| ClientError::Incomplete {
                    path: path.clone(),
                    source: std::io::ErrorKind::UnexpectedEof.into(),
                })
            }
        };
        let news = if answered { News::Lost(error.to_string()) } else { News::Failed(error) };
        let over = matches!(news, News::Failed(_));
        if sender.send(news).is_err() || over {
            return;
        }
        if stopped.recv_timeout(AGAIN) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        next = Client::connect(&path);
    }
}
