//! From a name to one TCP connection. All addresses of the name are tried, each with a short head start before the next
//! (RFC 8305), so that an address that drops packets does not block the others.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// How long an address is tried alone before the next one is tried in parallel.
const HEAD_START: Duration = Duration::from_millis(250);
/// The maximum number of addresses that are tried.
const ADDRESSES: usize = 16;
/// The maximum number of addresses that are examined to find those: a name with many addresses of one family may have
/// one of the other.
const LOOKED_UP: usize = 256;

/// One address of a name, and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The address.
    pub address: SocketAddr,
    /// Its answer.
    pub answer: Answer,
}

/// The answer of an address to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The address accepts the connection.
    Taken,
    /// No answer within this time.
    Swallowed(Duration),
    /// The connection is refused, or there is no route.
    Refused(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => write!(f, "can be reached"),
            Self::Swallowed(after) => write!(f, "no answer within {} s", after.as_secs()),
            Self::Refused(why) => write!(f, "{why}"),
        }
    }
}

/// The answers of a name's addresses, each answer once: `no answer within 10 s (2001:db8::2); Connection refused
/// (192.0.2.1, 192.0.2.2)`.
pub fn told<'a>(host: &str, tried: impl IntoIterator<Item = &'a Tried>) -> String {
    let mut answers: Vec<(&Answer, Vec<String>)> = Vec::new();
    for Tried { address, answer } in tried {
        let address = address.ip().to_string();
        match answers.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, addresses)) => addresses.push(address),
            None => answers.push((answer, vec![address])),
        }
    }
    let text = |(answer, addresses): (&Answer, Vec<String>)| match addresses.as_slice() {
        // A user who set an address instead of a name knows which one was tried.
        [address] if address == bare(host) => answer.to_string(),
        _ => format!("{answer} ({})", addresses.join(", ")),
    };
    answers.into_iter().map(text).collect::<Vec<_>>().join("; ")
}

/// Tries every address of a name at the same time, each with this time limit, and returns the answers.
///
/// # Errors
///
/// If the name has no address, as text.
pub async fn try_all(host: &str, port: u16, limit: Duration) -> Result<Vec<Tried>, String> {
    let until = Instant::now() + limit;
    let addresses = look_up(host, port, until).await?;
    let tries = addresses.into_iter().map(async |address| {
        let answer = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Answer::Taken,
            Ok(Err(error)) => Answer::Refused(plain(&error)),
            Err(_) => Answer::Swallowed(limit),
        };
        Tried { address, answer }
    });
    Ok(join_all(tries).await)
}

/// The first established connection, by any address of the name, within `limit`.
pub(super) async fn reach<T, F: Future<Output = io::Result<T>>>(
    host: &str,
    port: u16,
    limit: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, String> {
    let until = Instant::now() + limit;
    let addresses = look_up(host, port, until).await?;
    race(addresses, limit, until, connect).await.map_err(|tried| told(host, &tried))
}

async fn look_up(host: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, String> {
    let found = match timeout_at(until, lookup_host((bare(host), port))).await {
        Ok(Ok(found)) => interleaved(found),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("cannot resolve the name: no answer from DNS".to_owned()),
    };
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

/// Without the brackets that an IPv6 address has in a URI.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Addresses of the two families by turns, each family in its own order; the family that the system puts first begins.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = Vec::new();
    for address in addresses.take(LOOKED_UP) {
        if !seen.contains(&address) {
            seen.push(address);
        }
    }
    let first_is_ipv6 = seen.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        seen.into_iter().partition(|address| address.is_ipv6() == first_is_ipv6);
    let mut turns = Vec::new();
    while let Some(address) = first.pop_front().or_else(|| second.pop_front()) {
        turns.push(address);
        turns.extend(second.pop_front());
    }
    turns.truncate(ADDRESSES);
    turns
}

/// The answers of all addresses, if none accepts a connection.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    limit: Duration,
    until: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<Tried>> {
    let mut waiting: VecDeque<_> = addresses.iter().copied().collect();
    let mut refused = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next
            && let Some(address) = waiting.pop_front()
        {
            let attempt = connect(address);
            running.push(async move { (address, attempt.await) });
            next = Instant::now() + HEAD_START;
        }
        if running.is_empty() && waiting.is_empty() {
            break;
        }
        tokio::select! {
            Some((address, outcome)) = running.next(), if !running.is_empty() => match outcome {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    refused.push(Tried { address, answer: Answer::Refused(plain(&error)) });
                    // The head start is over.
                    next = Instant::now();
                }
            },
            () = sleep_until(next), if !waiting.is_empty() => {}
            () = sleep_until(until) => break,
        }
    }
    let answered = |address: &SocketAddr| refused.iter().find(|tried| tried.address == *address).cloned();
    let silent = |address| Tried { address, answer: Answer::Swallowed(limit) };
    Err(addresses.into_iter().map(|address| answered(&address).unwrap_or_else(|| silent(address))).collect())
}

/// Without the error number of the system.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 5672)).collect()
    }

    #[test]
    fn families_take_turns_and_the_systems_order_stands() {
        let found = addresses(&["::1", "::2", "::3", "10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(interleaved(found.into_iter()), addresses(&["::1", "10.0.0.1", "::2", "10.0.0.2", "::3"]));
        let found = addresses(&["10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(interleaved(found.into_iter()), addresses(&["10.0.0.1", "::1", "10.0.0.2"]));
        let many = (1..=100).map(|last| format!("::{last:x}")).chain(["10.0.0.1".to_owned()]);
        let found = interleaved(many.map(|text| SocketAddr::new(text.parse().unwrap(), 5672)));
        assert_eq!((found.len(), found[1]), (ADDRESSES, addresses(&["10.0.0.1"])[0]));
    }

    #[tokio::test]
    async fn one_that_swallows_or_refuses_does_not_keep_the_next_from_being_reached() {
        let began = Instant::now();
        let limit = Duration::from_secs(60);
        let three = addresses(&["::1", "10.0.0.1", "10.0.0.2"]);
        let connect = async |address: SocketAddr| match address.ip().to_string().as_str() {
            "::1" => std::future::pending().await,
            "10.0.0.1" => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Ok(address),
        };
        let reached = race(three.clone(), limit, began + limit, connect).await.unwrap();
        assert_eq!(reached, three[2]);
        assert!(began.elapsed() >= HEAD_START && began.elapsed() < limit / 2, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn what_each_address_answered_is_told() {
        let limit = Duration::from_secs(1);
        let two = addresses(&["::1", "10.0.0.1"]);
        let connect = async |address: SocketAddr| match address.is_ipv6() {
            true => std::future::pending().await,
            false => io::Result::<()>::Err(io::Error::other("Network is unreachable (os error 101)")),
        };
        let tried = race(two, limit, Instant::now() + limit, connect).await.unwrap_err();
        assert_eq!(told("name", &tried), "no answer within 1 s (::1); Network is unreachable (10.0.0.1)");
    }

    #[test]
    fn an_answer_is_told_once_and_an_address_that_was_set_not_at_all() {
        let refused = |address| Tried { address, answer: Answer::Refused("Connection refused".to_owned()) };
        let tried: Vec<_> = addresses(&["10.0.0.1", "::1"]).into_iter().map(refused).collect();
        assert_eq!(told("name", &tried), "Connection refused (10.0.0.1, ::1)");
        assert_eq!(told("name", &tried[1..]), "Connection refused (::1)");
        assert_eq!(told("[::1]", &tried[1..]), "Connection refused");
    }
}
