//! The session's window and queue against simple models, under random schedules.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_schemas::Message;
use proptest::prelude::*;
use smallvec::SmallVec;

use super::{Entry, Inflight, Mqueue, Overdue, PubRec, Waiting};

/// What may happen to a window.
#[derive(Debug, Clone)]
enum Step {
    Send(QoS),
    Skip,
    PubAck(u16),
    PubRec(u16),
    PubComp(u16),
    /// Everything that was sent before is overdue.
    Resend,
    /// The connection breaks, and the window begins anew at the first message that is not settled.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    // Identifiers near those that are in use, and some far away.
    let id = prop_oneof![1u16..40, any::<u16>()];
    prop_oneof![
        3 => Just(Step::Send(QoS::AtLeastOnce)),
        3 => Just(Step::Send(QoS::ExactlyOnce)),
        1 => Just(Step::Skip),
        3 => id.clone().prop_map(Step::PubAck),
        3 => id.clone().prop_map(Step::PubRec),
        3 => id.prop_map(Step::PubComp),
        1 => Just(Step::Resend),
        1 => Just(Step::Reconnect),
    ]
}

/// A message as the model has it: its QoS, and whether PUBREC has come.
type Model = BTreeMap<u64, (QoS, bool)>;

fn message() -> Arc<Message> {
    Arc::new(Message::internal("t", ""))
}

fn id_of(sequence: u64) -> u16 {
    (sequence % 65_535 + 1) as u16
}

proptest! {
    #[test]
    fn the_window_is_as_its_model(first in prop_oneof![Just(0u64), 65_500u64..65_560, Just(1 << 40)], steps in proptest::collection::vec(step(), 1..200), window in 1u16..50) {
        let mut inflight = Inflight::starting_at(first);
        let mut model = Model::new();
        let mut next = first;
        for step in steps {
            let by_id = |model: &Model, id: u16| model.iter().find(|(sequence, _)| id_of(**sequence) == id).map(|(sequence, state)| (*sequence, *state));
            prop_assert_eq!(inflight.next(), next);
            prop_assert_eq!(inflight.has_room(window), model.len() < usize::from(window));
            match step {
                Step::Send(qos) => {
                    let id = inflight.push(Entry::Sent { message: message(), qos, bytes: 1, flags: 0, at_ms: 1, lease: None });
                    prop_assert_eq!(id, id_of(next));
                    prop_assert!(by_id(&model, id).is_none(), "an identifier in use");
                    model.insert(next, (qos, false));
                    next += 1;
                }
                Step::Skip => {
                    inflight.push(Entry::Done);
                    next += 1;
                }
                Step::PubAck(id) => {
                    let expect = by_id(&model, id).filter(|(_, (qos, _))| *qos == QoS::AtLeastOnce).map(|(sequence, _)| sequence);
                    prop_assert_eq!(inflight.acknowledge(id).map(|(sequence, ..)| sequence), expect);
                    expect.map(|sequence| model.remove(&sequence));
                }
                Step::PubRec(id) => match (inflight.release(id, 1), by_id(&model, id)) {
                    (PubRec::Released { sequence, .. }, Some((expect, (QoS::ExactlyOnce, false)))) => {
                        prop_assert_eq!(sequence, expect);
                        model.insert(sequence, (QoS::ExactlyOnce, true));
                    }
                    (PubRec::Again, Some((_, (QoS::ExactlyOnce, true)))) => {}
                    (PubRec::Unknown, state) => prop_assert!(state.is_none_or(|(_, (qos, _))| qos == QoS::AtLeastOnce)),
                    (got, state) => prop_assert!(false, "{:?} for {:?}", got, state),
                },
                Step::PubComp(id) => {
                    let expect = by_id(&model, id).filter(|(_, (qos, _))| *qos == QoS::ExactlyOnce).map(|(sequence, _)| sequence);
                    prop_assert_eq!(inflight.complete(id).map(|(sequence, _)| sequence), expect);
                    expect.map(|sequence| model.remove(&sequence));
                }
                Step::Resend => {
                    let got: Vec<_> = inflight.overdue(10, 1).into_iter().map(|(id, what)| (id, matches!(what, Overdue::Release))).collect();
                    let expect: Vec<_> = model.iter().map(|(sequence, (_, released))| (id_of(*sequence), *released)).collect();
                    prop_assert_eq!(got, expect, "all of them, in their order");
                }
                Step::Reconnect => {
                    let front = model.keys().next().copied().unwrap_or(next);
                    inflight = Inflight::starting_at(front);
                    for sequence in front..next {
                        let entry = match model.get(&sequence) {
                            Some((_, true)) => Entry::Released { bytes: 1, at_ms: 1 },
                            Some((qos, false)) => Entry::Sent { message: message(), qos: *qos, bytes: 1, flags: 0, at_ms: 1, lease: None },
                            None => Entry::Done,
                        };
                        prop_assert_eq!(inflight.push(entry), id_of(sequence), "under its own identifier");
                    }
                }
            }
        }
    }

    #[test]
    fn the_queue_gives_the_highest_priority_and_the_oldest_first(
        steps in proptest::collection::vec(prop_oneof![3 => (0u16..4).prop_map(Some), 2 => Just(None)], 1..200), most in 1usize..10,
    ) {
        let mut queue = Mqueue::default();
        let mut model: Vec<(u16, usize)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Some(priority) => {
                    let message = Arc::new(Message::internal("t", &number.to_string()));
                    let waiting = Waiting { message, flags: 0, identifiers: SmallVec::new(), lease: None };
                    let dropped = queue.push(waiting, priority, most, usize::MAX);
                    model.push((priority, number));
                    let of_level = model.iter().filter(|(other, _)| *other == priority).count();
                    prop_assert_eq!(dropped.len(), usize::from(of_level > most));
                    if of_level > most {
                        let oldest = model.iter().position(|(other, _)| *other == priority).expect("there are some");
                        let expect = model.remove(oldest).1.to_string();
                        prop_assert_eq!(&dropped[0].message.payload[..], expect.as_bytes());
                    }
                }
                None => {
                    let best = model.iter().map(|(priority, _)| *priority).max();
                    let expect = best.and_then(|best| model.iter().position(|(priority, _)| *priority == best)).map(|place| model.remove(place).1.to_string());
                    let got = queue.pop().map(|waiting| String::from_utf8_lossy(&waiting.message.payload).into_owned());
                    prop_assert_eq!(got, expect);
                }
            }
            prop_assert_eq!(queue.len(), model.len());
        }
    }
}
