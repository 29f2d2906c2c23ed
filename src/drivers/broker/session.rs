//! One session, from connecting to its end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::{Acker, Event};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

use crate::machine::{Cause, Reason, one_line};
use crate::wire::Talk;

use super::fault::Fault;
use super::link::{Incoming, Link};
use super::outbox::{Answer, Outbox};
use super::receive::{self, Noted, Received};
use super::topology::Names;
use super::{BrokerEvent, BrokerSettings, CLOSE_TIMEOUT, DeliveryTag, Ends, TALK_QUEUE_LIMIT};

/// How a session ended that was not closed on request.
pub(super) struct Ended {
    pub(super) fault: Fault,
    /// How long it was up; `None` if it never was.
    pub(super) lasted: Option<Duration>,
}

/// Runs one session until it breaks, or until it is closed on request, which is `Ok`. The queue `unserved` is created
/// again first.
pub(super) async fn run(
    settings: &BrokerSettings,
    number: u64,
    unserved: Option<&str>,
    noted: &mut Noted,
    ends: &mut Ends,
) -> Result<(), Ended> {
    let names = Names::new(&settings.group, &settings.me);
    let opened = tokio::select! {
        _ = &mut ends.stop => return Ok(()),
        opened = Link::open(settings, &names, unserved) => opened,
    };
    let mut link = opened.map_err(|fault| Ended { fault, lasted: None })?;
    info!("connected to the broker ({settings})");
    // Left over from an earlier session: the machine repeats what it owes after `Connected`.
    while ends.publish.try_recv().is_ok() {}
    while ends.talk.try_recv().is_ok() {}
    let began = Instant::now();
    let mut session = Session {
        settings,
        names: &names,
        number,
        noted,
        outbox: Outbox::new(settings, &names.exchange, link.publishing.clone(), number),
        unanswered: BTreeMap::new(),
        news: VecDeque::from([BrokerEvent::Connected]),
        blocked: false,
        unblocked: began,
    };
    ends.open.store(true, Ordering::Release);
    let outcome = session.serve(&mut link, ends).await;
    ends.open.store(false, Ordering::Release);
    if outcome.is_ok() {
        session.flush(ends).await;
    }
    link.close().await;
    outcome.map_err(|fault| Ended { fault, lasted: Some(began.elapsed()) })
}

struct Session<'a> {
    settings: &'a BrokerSettings,
    names: &'a Names,
    number: u64,
    noted: &'a mut Noted,
    outbox: Outbox<'a>,
    /// Deliveries that the daemon has not acknowledged, by their number.
    unanswered: BTreeMap<u64, Acker>,
    /// Events for the daemon; limited by the prefetch, and by [`TALK_QUEUE_LIMIT`] for those without acknowledgement.
    news: VecDeque<BrokerEvent>,
    blocked: bool,
    unblocked: Instant,
}

impl Session<'_> {
    /// Ends with `Ok` on request, or when the receiver is gone.
    async fn serve(&mut self, link: &mut Link, ends: &mut Ends) -> Result<(), Fault> {
        let mut check = interval(Duration::from_secs(1));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut ends.stop => return Ok(()),
                event = link.events.next() => self.handle_event(event, ends)?,
                permit = ends.events.reserve(), if !self.news.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(news) = self.news.pop_front() {
                            permit.send(news);
                        }
                    }
                    Err(_) => return Ok(()),
                },
                step = self.outbox.step() => if let Some(ask) = step? {
                    self.news.push_back(BrokerEvent::Undelivered { ask });
                },
                tag = ends.acknowledge.recv() => match tag {
                    Some(tag) => self.acknowledge(tag),
                    None => return Ok(()),
                },
                outgoing = ends.publish.recv(), if self.outbox.has_room() => match outgoing {
                    Some((to, message)) => self.outbox.publish(&to, message),
                    None => return Ok(()),
                },
                outgoing = ends.talk.recv(), if self.outbox.has_room() => match outgoing {
                    Some(outgoing) => self.outbox.send(outgoing),
                    None => return Ok(()),
                },
                incoming = link.consumers.next() => match incoming {
                    Some(Ok(Incoming::Message(delivery))) => self.receive(delivery),
                    Some(Ok(Incoming::Talk(delivery))) => self.receive_talk(delivery),
                    Some(Err(error)) => return Err(Fault::using(&error, &self.settings.me)),
                    None => return Err(Fault::Lost("the broker has cancelled a consumer".to_owned())),
                },
                _ = check.tick() => self.check_patience()?,
            }
        }
    }

    fn handle_event(&mut self, event: Option<Event>, ends: &Ends) -> Result<(), Fault> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                let text = format!("the broker accepts no messages ({}): {}", self.settings, one_line(&reason));
                warn!("{text}");
                self.blocked = true;
                ends.open.store(false, Ordering::Release);
                self.news.push_back(BrokerEvent::Disconnected(Reason::with(Cause::Broker, &text)));
            }
            Some(Event::ConnectionUnblocked) if self.blocked => {
                info!("the broker accepts messages again");
                self.blocked = false;
                self.unblocked = Instant::now();
                ends.open.store(true, Ordering::Release);
                self.news.push_back(BrokerEvent::Connected);
            }
            Some(Event::Error(error)) => return Err(Fault::using(&error, &self.settings.me)),
            Some(_) => {}
            None => return Err(Fault::Lost("lapin closed the connection".to_owned())),
        }
        Ok(())
    }

    fn receive(&mut self, delivery: Delivery) {
        let received = receive::read(&delivery, self.names, &self.settings.group, &self.settings.me, self.noted);
        match received {
            Received::Message(from, message) => {
                let tag = DeliveryTag { session: self.number, number: delivery.delivery_tag };
                self.unanswered.insert(tag.number, delivery.acker);
                self.news.push_back(BrokerEvent::Delivery { from, message, tag });
            }
            Received::Echo | Received::Unknown => self.outbox.answer(delivery.acker, Answer::Acknowledge),
            Received::Refused => self.outbox.answer(delivery.acker, Answer::Reject),
        }
    }

    /// Acknowledged at once: a question that the daemon does not take in time is not useful later.
    fn receive_talk(&mut self, delivery: Delivery) {
        let received = receive::read_talk(&delivery, self.names, &self.settings.group, self.noted);
        self.outbox.answer(delivery.acker, Answer::Acknowledge);
        let Some((from, talk)) = received else { return };
        if self.news.len() >= TALK_QUEUE_LIMIT as usize {
            debug!(kind = talk.kind(), "dropped, because the daemon is overloaded");
            return;
        }
        self.news.push_back(match talk {
            Talk::Ask { ask, method, parameters } => BrokerEvent::Asked { from, ask, method, parameters },
            Talk::Answer { ask, outcome } => BrokerEvent::Answered { from, ask, outcome },
        });
    }

    fn acknowledge(&mut self, tag: DeliveryTag) {
        let acker = if tag.session == self.number { self.unanswered.remove(&tag.number) } else { None };
        match acker {
            Some(acker) => self.outbox.answer(acker, Answer::Acknowledge),
            None => debug!(?tag, "acknowledged twice, or too late"),
        }
    }

    fn check_patience(&mut self) -> Result<(), Fault> {
        if self.blocked { Ok(()) } else { self.outbox.check_patience(self.unblocked) }
    }

    /// Publishes what was handed over before the end.
    async fn flush(&mut self, ends: &mut Ends) {
        while let Ok(tag) = ends.acknowledge.try_recv() {
            self.acknowledge(tag);
        }
        while let Ok((to, message)) = ends.publish.try_recv() {
            self.outbox.publish(&to, message);
        }
        while let Ok(outgoing) = ends.talk.try_recv() {
            self.outbox.send(outgoing);
        }
        let flushed = async {
            while !self.outbox.is_idle() {
                self.outbox.step().await?;
            }
            Ok::<(), Fault>(())
        };
        match timeout(CLOSE_TIMEOUT / 2, flushed).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => debug!("the session broke during its close: {fault}"),
            Err(_) => debug!("some messages were not published before the session closed"),
        }
    }
}
