//! Publishers that publish until the broker is gone. What was not acknowledged is not sent again, and no number is used twice: a
//! duplicate can only be the broker's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookline_mqtt::QoS;
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::AckKind;

use super::{Account, KEPT};
use crate::broker::Broker;

/// Messages of QoS 1 that a publisher has on their way.
const WINDOW: usize = 16;
/// Enough to be in the middle of something at any moment, and not more than can be checked in a test.
const PACE: Duration = Duration::from_micros(300);
/// The longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// One publisher of the load.
pub(super) fn publish(broker: &Broker, publisher: usize, account: &mut Account, round: u64, ending: &AtomicBool) {
    let Ok(mut client) = Client::connect(broker.address(), &Options::new(&format!("publisher-{publisher}"))) else { return };
    let topic = format!("load/{publisher}");
    if publisher % 4 == 3 {
        // The broker is gone: that is how it ends.
        drop(exactly_once(&mut client, &topic, publisher, account, round, ending));
    } else {
        drop(at_least_once(&mut client, &topic, publisher, account, round, ending));
    }
}

/// The publisher of the retained message, whose payload is its number.
pub(super) fn retain(broker: &Broker, account: &mut Account, round: u64, ending: &AtomicBool) {
    let Ok(mut client) = Client::connect(broker.address(), &Options::new("keeper")) else { return };
    while !ending.load(Ordering::Relaxed) {
        std::thread::sleep(PACE);
        let seq = account.take_number();
        match client.publish(KEPT, seq.to_string().as_bytes(), QoS::AtLeastOnce, true) {
            Ok(reason) => account.acknowledge(seq, round, reason.is_error()),
            Err(_) => return,
        }
    }
}

/// With a window.
fn at_least_once(
    client: &mut Client,
    topic: &str,
    publisher: usize,
    account: &mut Account,
    round: u64,
    ending: &AtomicBool,
) -> Result<(), Error> {
    let mut waiting: HashMap<u16, u64> = HashMap::new();
    let mut sending = || -> Result<(), Error> {
        while !ending.load(Ordering::Relaxed) {
            std::thread::sleep(PACE);
            let seq = account.take_number();
            let id = client.send(topic, payload(publisher, seq).as_bytes(), QoS::AtLeastOnce, false, &Default::default())?;
            waiting.insert(id, seq);
            while waiting.len() >= WINDOW {
                let (id, reason) = client.next_ack(ANSWER)?.ok_or(Error::Timeout(ANSWER))?;
                waiting.remove(&id).into_iter().for_each(|seq| account.acknowledge(seq, round, reason.is_error()));
            }
        }
        Ok(())
    };
    let ended = sending();
    // What was acknowledged just before the end counts as well.
    while let Some((id, reason)) = client.next_ack(Duration::from_millis(50))? {
        waiting.remove(&id).into_iter().for_each(|seq| account.acknowledge(seq, round, reason.is_error()));
    }
    ended
}

/// One after the other. The PUBREC is the acknowledgement, also where the PUBCOMP does not come any more.
fn exactly_once(
    client: &mut Client,
    topic: &str,
    publisher: usize,
    account: &mut Account,
    round: u64,
    ending: &AtomicBool,
) -> Result<(), Error> {
    while !ending.load(Ordering::Relaxed) {
        std::thread::sleep(PACE);
        let seq = account.take_number();
        let id = client.send(topic, payload(publisher, seq).as_bytes(), QoS::ExactlyOnce, false, &Default::default())?;
        let (_, reason) = client.next_ack(ANSWER)?.ok_or(Error::Timeout(ANSWER))?;
        account.acknowledge(seq, round, reason.is_error());
        client.send_ack(AckKind::PubRel, id)?;
        client.next_ack(ANSWER)?.ok_or(Error::Timeout(ANSWER))?;
    }
    Ok(())
}

impl Account {
    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn acknowledge(&mut self, seq: u64, round: u64, refused: bool) {
        assert!(!refused, "{seq} was refused in round {round}, and nothing is at a bound");
        self.acknowledged.insert(seq, round);
    }
}

fn payload(publisher: usize, seq: u64) -> String {
    format!(r#"{{"publisher": {publisher}, "seq": {seq}}}"#)
}
