//! One connection with its channels and consumers.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{AsyncTcpStream, Channel, Connection, ConnectionProperties, Consumer, Event};
use tokio::time::timeout;
use tracing::warn;

use crate::machine::{Mode, Node};

use super::answered::answered;
use super::fault::Fault;
use super::reach::reach;
use super::topology::Names;
use super::{ANSWER_TIMEOUT, BrokerSettings, HEARTBEAT, PREFETCH, rights, tls};

/// A connection that is ready for work. An error closes a channel, so publishing and consuming have one channel each,
/// and declaring had its own.
pub(super) struct Link {
    pub(super) publishing: Channel,
    pub(super) events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    pub(super) consumers: Consumers,
    connection: Connection,
    _cutter: Cutter,
}

/// The node's own queue, the queue for all, the queue for questions, and on central the centrals' queue.
pub(super) struct Consumers {
    own: Consumer,
    all: Consumer,
    now: Consumer,
    shared: Option<Consumer>,
}

/// A delivery.
pub(super) enum Incoming {
    /// A message, or bytes that claim to be one.
    Message(Delivery),
    /// A question or an answer, likewise.
    Talk(Delivery),
}

impl Link {
    /// Connects, declares, binds and starts to consume; first removes the queue `unserved`, if given.
    pub(super) async fn open(settings: &BrokerSettings, names: &Names, unserved: Option<&str>) -> Result<Self, Fault> {
        ShortString::try_new(settings.username.as_str()).map_err(|_| Fault::Setting("username"))?;
        ShortString::try_new(settings.vhost.as_str()).map_err(|_| Fault::Setting("vhost"))?;
        if !rights::may_be(Some(&settings.username), &settings.group, &settings.me) {
            return Err(Fault::Foreign(settings.username.clone()));
        }
        let cutter = Cutter::default();
        let connection = connect(settings, &cutter).await?;
        let opened = async {
            shared(&connection, settings, names).await?;
            // There is only one listener: several would share the events. Earlier events are dropped, such as the
            // refusal for a node's own account.
            let events = Box::pin(connection.events_listener());
            let (publishing, consumers) = consume(&connection, settings, names, unserved).await?;
            Ok((events, publishing, consumers))
        };
        match opened.await {
            Ok((events, publishing, consumers)) => {
                Ok(Self { publishing, events, consumers, connection, _cutter: cutter })
            }
            Err(fault) => {
                close(&connection).await;
                Err(fault)
            }
        }
    }

    /// Closes the session in AMQP's way, if the broker still answers.
    pub(super) async fn close(self) {
        close(&self.connection).await;
    }
}

impl Consumers {
    /// The next message of any queue; `None` if the broker has cancelled a consumer.
    pub(super) async fn next(&mut self) -> Option<lapin::Result<Incoming>> {
        let Self { own, all, now, shared } = self;
        let shared = async {
            match shared {
                Some(shared) => shared.next().await,
                None => std::future::pending().await,
            }
        };
        let message = tokio::select! {
            delivery = own.next() => delivery,
            delivery = all.next() => delivery,
            delivery = shared => delivery,
            talk = now.next() => return talk.map(|talk| talk.map(Incoming::Talk)),
        };
        message.map(|message| message.map(Incoming::Message))
    }
}

pub(super) async fn close(connection: &Connection) {
    // A broken connection, or a dead broker, needs no close.
    let _ = timeout(Duration::from_secs(1), connection.close(200, "OK".into())).await;
}

pub(super) async fn connect(settings: &BrokerSettings, cutter: &Cutter) -> Result<Connection, Fault> {
    let seconds = u16::try_from(HEARTBEAT.as_secs()).unwrap_or(u16::MAX);
    let connector = match &settings.tls {
        Some(tls) => Some(tls::connector(tls.clone()).await?),
        None => None,
    };
    let (mechanism, password) = match &settings.password {
        Some(password) => (SASLMechanism::Plain, password.clone()),
        None => (SASLMechanism::External, String::new()),
    };
    // Never amqps: TLS is our own layer, so that the TCP connection below it is accessible and errors can be
    // distinguished.
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username: settings.username.clone(), password },
            host: settings.host.clone(),
            port: settings.port,
        },
        vhost: settings.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(seconds), auth_mechanism: Some(mechanism), ..Default::default() },
    };
    let properties = ConnectionProperties::default()
        .with_connection_name(format!("synkler {} {}", settings.group, settings.me).into());
    let runtime = lapin::runtime::default_runtime().map_err(|error| Fault::connecting(&error, settings))?;
    let attempt = |address| AsyncTcpStream::connect(&runtime, address);
    let stream = reach(&settings.host, settings.port, ANSWER_TIMEOUT, attempt).await.map_err(Fault::Unreachable)?;
    if let AsyncTcpStream::Plain(plain) = &stream {
        let held = plain.get_ref().as_fd().try_clone_to_owned();
        hold(&cutter.0, held.map_err(|error| Fault::Unreachable(error.to_string()))?.into());
    }
    let stream = Mutex::new(Some(stream));
    let connecting = Connection::connector(
        uri,
        runtime,
        async move |uri, _| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = stream.ok_or_else(|| std::io::Error::other("it is connected once"))?;
            let Some(connector) = &connector else { return Ok(stream) };
            // Also checks that the certificate is for this name or address.
            let handshake = stream.into_rustls(connector, &uri.authority.host);
            Ok(timeout(ANSWER_TIMEOUT, handshake).await.map_err(std::io::Error::from)??)
        },
        properties,
    );
    match timeout(ANSWER_TIMEOUT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(Fault::connecting(&error, settings)),
        Err(_) => Err(Fault::Silent { asked: "the AMQP greeting", seconds: ANSWER_TIMEOUT.as_secs() }),
    }
}

/// Creates what the whole group shares, or finds it.
async fn shared(connection: &Connection, settings: &BrokerSettings, names: &Names) -> Result<(), Fault> {
    let me = &settings.me;
    let making = answered("open a channel", me, connection.create_channel()).await?;
    let used = match names.declare_shared(&making, me).await {
        // A node's own account may not create it. The refusal has closed the channel.
        Err(Fault::Denied(why)) if me.mode != Mode::Central => {
            let looking = answered("open a channel", me, connection.create_channel()).await?;
            names.find_shared(&looking, me).await.map_err(|fault| fault.of_shared(why))?;
            looking
        }
        Err(fault) => return Err(fault),
        Ok(()) => making,
    };
    answered("close a channel", me, used.close(200, "OK".into())).await
}

async fn consume(
    connection: &Connection,
    settings: &BrokerSettings,
    names: &Names,
    unserved: Option<&str>,
) -> Result<(Channel, Consumers), Fault> {
    let me = &settings.me;
    let declaring = answered("open a channel", me, connection.create_channel()).await?;
    if let Some(queue) = unserved {
        warn!("queue {queue} lost its leader permanently: synkler creates it again and sends its messages again");
        let delete = declaring.queue_delete(queue.into(), QueueDeleteOptions::default());
        answered("delete a queue that has lost its leader", me, delete).await?;
    }
    names.declare_own(&declaring, me).await?;
    answered("close a channel", me, declaring.close(200, "OK".into())).await?;

    let publishing = answered("open a channel", me, connection.create_channel()).await?;
    let confirm = publishing.confirm_select(ConfirmSelectOptions::default());
    answered("confirm what is published", me, confirm).await?;

    let consuming = answered("open a channel", me, connection.create_channel()).await?;
    answered("limit deliveries", me, consuming.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
    // Exclusive, so that the broker refuses a second node of the same name.
    let own = start(&consuming, me, &names.own, true).await?;
    let all = start(&consuming, me, &names.all, true).await?;
    let now = start(&consuming, me, &names.now, true).await?;
    let shared = match me.mode {
        Mode::Central => Some(start(&consuming, me, &names.shared, false).await?),
        Mode::Upload | Mode::Download => None,
    };
    Ok((publishing, Consumers { own, all, now, shared }))
}

async fn start(channel: &Channel, me: &Node, queue: &str, exclusive: bool) -> Result<Consumer, Fault> {
    let options = BasicConsumeOptions { exclusive, ..Default::default() };
    let consume = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    answered("consume a queue", me, consume).await.map_err(|fault| fault.of_queue(queue))
}

/// Closes the TCP connection when the link is dropped. Otherwise lapin's IO thread would wait for a silent peer for
/// ever, and every further attempt would add another one.
#[derive(Default)]
pub(super) struct Cutter(Arc<Mutex<Cut>>);

#[derive(Default)]
struct Cut {
    done: bool,
    stream: Option<TcpStream>,
}

fn hold(cut: &Mutex<Cut>, stream: TcpStream) {
    let mut cut = cut.lock().unwrap_or_else(PoisonError::into_inner);
    if cut.done {
        // Dropped while the connection was being made. The other side may have closed it already.
        let _ = stream.shutdown(Shutdown::Both);
    } else {
        cut.stream = Some(stream);
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        let mut cut = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cut.done = true;
        if let Some(stream) = cut.stream.take() {
            // Closed already if AMQP's own close succeeded.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
