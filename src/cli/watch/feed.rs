//! The monitor stream on a thread of its own, which connects again when the daemon has gone.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use crate::cli::terminal::reader_leaves;
use crate::control::types::{Monitor, Shown};
use crate::control::{Client, ClientError};

/// Between two attempts to reach a daemon that has gone.
const AGAIN: Duration = Duration::from_secs(1);
/// The most news that wait to be shown.
const QUEUE: usize = 16;

/// What comes from the daemon.
#[derive(Debug)]
pub(in crate::cli) enum News {
    /// The status, or what of it has changed.
    Answer(Box<Monitor>),
    /// It does not answer any more, for this reason, and is being called again.
    Lost(String),
    /// It has never answered, and nothing more comes.
    Failed(ClientError),
    /// Nobody reads any more what is written about it.
    Unread,
}

/// The receiving end; when it is dropped, the thread ends with its next news.
#[derive(Debug)]
pub(in crate::cli) struct Feed {
    news: Receiver<News>,
    /// Dropped with the feed, which wakes the thread where it waits to try again.
    _stop: mpsc::Sender<()>,
}

impl Feed {
    /// Starts to listen, first on this connection.
    pub(in crate::cli) fn start(client: Client, what: Shown) -> Self {
        Self::with(client, what, |_| {})
    }

    /// The same for what is written to stdout: nothing may change for long, and whoever reads may have seen enough.
    pub(super) fn until_unread(client: Client, what: Shown) -> Self {
        Self::with(client, what, |sender| {
            thread::spawn(move || {
                if reader_leaves() {
                    // When nobody listens, there is nobody to tell.
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

    /// The next news, as soon as there are any; none when none can come any more.
    pub(in crate::cli) fn wait(&self) -> Option<News> {
        self.news.recv().ok()
    }

    /// The next news, if they come within this time.
    pub(in crate::cli) fn wait_for(&self, time: Duration) -> Option<News> {
        self.news.recv_timeout(time).ok()
    }

    /// The next news if there are any.
    pub(in crate::cli) fn take(&self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

/// Ends when nobody listens any more.
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
                // A stream that ends without an error ends because the daemon does.
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
