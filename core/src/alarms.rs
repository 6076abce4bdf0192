//! Alarms: what an operator should know now. Each change is logged once, and said below `$SYS/brokers/NODE/alarms/`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hookline_schemas::Message;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock;
use crate::mailbox::{Mail, Mailbox};

/// Memory is at its bound.
pub(crate) const MEMORY_HIGH: &str = "memory_high";
/// The store takes nothing new.
pub(crate) const STORE_FULL: &str = "store_full";
/// The store was damaged when it was opened. Active until the next start.
pub(crate) const STORE_DAMAGED: &str = "store_damaged";
/// Something that the store had once is not there any more. Active until the next start.
pub(crate) const STORE_LOST: &str = "store_lost";

/// Alarms that are over and remembered; then the oldest is forgotten.
const HISTORY_MAX: usize = 1000;

/// An alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// Of the alarms that are active each has another one.
    pub name: String,
    /// For people: what is wrong, and what follows.
    pub message: String,
    /// The numbers behind it.
    pub details: Value,
    /// Milliseconds since the Unix epoch.
    pub activated_at_ms: u64,
    /// `None`: it is active.
    pub deactivated_at_ms: Option<u64>,
}

/// All alarms. Any thread may raise and end them.
#[derive(Debug)]
pub struct Alarms {
    node: Arc<str>,
    /// Of the worker that says what is said.
    mailbox: Arc<Mailbox>,
    state: Mutex<State>,
}

/// Names come from the code and the configuration, never from clients: what is active needs no bound.
#[derive(Debug, Default)]
struct State {
    active: BTreeMap<String, Alarm>,
    /// The oldest first.
    history: VecDeque<Alarm>,
}

impl Alarm {
    /// As hooks are told of it.
    fn to_event(&self) -> hookline_schemas::event::Alarm {
        hookline_schemas::event::Alarm {
            name: self.name.clone(),
            message: self.message.clone(),
            details: hookline_schemas::Value::from_json(self.details.clone()),
            activated_at_us: self.activated_at_ms * 1000,
            deactivated_at_us: self.deactivated_at_ms.map(|at_ms| at_ms * 1000),
        }
    }

    /// In the form that EMQX has: times in microseconds.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "message": self.message,
            "details": self.details,
            "activate_at": self.activated_at_ms * 1000,
            "deactivate_at": self.deactivated_at_ms.map_or_else(|| json!("infinity"), |at_ms| json!(at_ms * 1000)),
            "activated": self.deactivated_at_ms.is_none(),
        })
    }
}

impl Alarms {
    pub(crate) fn new(node: Arc<str>, mailbox: Arc<Mailbox>) -> Alarms {
        let alarms = Alarms { node, mailbox, state: Mutex::default() };
        alarms.say_active(&State::default());
        alarms
    }

    /// Raises an alarm. One that is active already stays as it is.
    pub fn activate(&self, name: &str, message: &str, details: Value) {
        {
            let mut state = self.state.lock();
            if state.active.contains_key(name) {
                return;
            }
            let (name, message, details) = (name.to_owned(), message.to_owned(), details.clone());
            let alarm = Alarm { name, message, details, activated_at_ms: clock::now_ms(), deactivated_at_ms: None };
            state.active.insert(alarm.name.clone(), alarm.clone());
            self.say("activate", &alarm, &state);
        }
        tracing::error!(alarm = name, what = message, %details, "an alarm is active");
    }

    /// Ends an alarm, where it is active.
    pub fn deactivate(&self, name: &str) {
        {
            let mut state = self.state.lock();
            let Some(mut alarm) = state.active.remove(name) else { return };
            alarm.deactivated_at_ms = Some(clock::now_ms());
            if state.history.len() >= HISTORY_MAX {
                state.history.pop_front();
            }
            state.history.push_back(alarm.clone());
            self.say("deactivate", &alarm, &state);
        }
        tracing::info!(alarm = name, "an alarm is over");
    }

    /// Those that are active, by name.
    pub fn active(&self) -> Vec<Alarm> {
        self.state.lock().active.values().cloned().collect()
    }

    /// Those that are over, the oldest first.
    pub fn history(&self) -> Vec<Alarm> {
        self.state.lock().history.iter().cloned().collect()
    }

    /// Under the lock, so that the order of what is said is that of the changes.
    fn say(&self, change: &str, alarm: &Alarm, state: &State) {
        self.mailbox.post(Mail::Alarm(Box::new(alarm.to_event())));
        let message = Message::internal(&self.topic(change), &alarm.to_json().to_string());
        self.mailbox.post(Mail::Publish(Box::new(message)));
        self.say_active(state);
    }

    /// For those who come later: what is active, retained.
    fn say_active(&self, state: &State) {
        let list: Vec<Value> = state.active.values().map(Alarm::to_json).collect();
        let message = Message { retain: true, ..Message::internal(&self.topic("active"), &Value::from(list).to_string()) };
        self.mailbox.post(Mail::Publish(Box::new(message)));
    }

    fn topic(&self, name: &str) -> String {
        format!("$SYS/brokers/{}/alarms/{name}", self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms() -> Alarms {
        let mailbox = Arc::new(Mailbox::new().expect("a mailbox"));
        let alarms = Alarms::new("n".into(), mailbox);
        assert_eq!(said(&alarms), [("active".to_owned(), json!([]))], "nothing is wrong at the beginning, and that is said");
        alarms
    }

    /// What was said since the last call.
    fn said(alarms: &Alarms) -> Vec<(String, Value)> {
        let mut mail = Vec::new();
        alarms.mailbox.take(&mut mail);
        let said = mail.into_iter().filter_map(|mail| match mail {
            Mail::Publish(message) => Some(message),
            _ => None,
        });
        said.map(|message| {
            let name = message.topic.strip_prefix("$SYS/brokers/n/alarms/").expect("below the node").to_owned();
            assert_eq!(message.retain, name == "active");
            (name, serde_json::from_slice(&message.payload).expect("JSON"))
        })
        .collect()
    }

    #[test]
    fn each_change_is_said_once_with_what_is_active_then() {
        let alarms = alarms();
        alarms.deactivate("a");
        assert!(said(&alarms).is_empty(), "it was not active");
        alarms.activate("a", "something is wrong", json!({ "bytes": 7 }));
        alarms.activate("a", "again", json!(null));
        let said_first = said(&alarms);
        let names: Vec<&str> = said_first.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["activate", "active"], "once");
        let alarm = &said_first[0].1;
        assert_eq!((&alarm["name"], &alarm["message"], &alarm["details"]["bytes"]), (&json!("a"), &json!("something is wrong"), &json!(7)));
        assert_eq!((&alarm["deactivate_at"], &alarm["activated"]), (&json!("infinity"), &json!(true)));
        assert_eq!(said_first[1].1, json!([alarm]));
        alarms.deactivate("a");
        let said_then = said(&alarms);
        assert_eq!((&said_then[0].0, &said_then[0].1["activated"]), (&"deactivate".to_owned(), &json!(false)));
        assert!(said_then[0].1["deactivate_at"].as_u64() >= alarm["activate_at"].as_u64());
        assert_eq!(said_then[1], ("active".to_owned(), json!([])));
        assert_eq!((alarms.active().len(), alarms.history().len()), (0, 1));
    }

    #[test]
    fn the_history_is_bounded_and_forgets_the_oldest() {
        let alarms = alarms();
        for n in 0..HISTORY_MAX + 10 {
            alarms.activate(&n.to_string(), "", json!(null));
            alarms.deactivate(&n.to_string());
        }
        let history = alarms.history();
        assert_eq!((history.len(), history[0].name.as_str()), (HISTORY_MAX, "10"));
    }

    #[test]
    fn many_threads_raise_one_alarm() {
        let alarms = alarms();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| alarms.activate("a", "", json!(null)));
            }
        });
        assert_eq!((said(&alarms).len(), alarms.active().len()), (2, 1));
    }
}
