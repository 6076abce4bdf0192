//! Limits and session behaviour.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::super::Imported;
use super::{bytes, entries, plain, seconds};

/// For ever, in the settings of expiries.
const FOR_EVER: i64 = 4_294_967_295;

/// How a value becomes ours.
#[derive(Debug, Clone, Copy)]
enum Form {
    Same,
    Bytes,
    Secs,
    /// A word, and what is not one of ours is left out.
    Word,
}

/// Names there, here, and how the value changes.
const LIMITS: &[(&str, &str, Form)] = &[
    ("idle_timeout", "idle_timeout_secs", Form::Secs),
    ("max_packet_size", "packet_bytes_max", Form::Bytes),
    ("max_clientid_len", "client_id_bytes_max", Form::Same),
    ("max_topic_levels", "topic_levels_max", Form::Same),
    ("max_topic_alias", "topic_alias_max", Form::Same),
    ("max_qos_allowed", "qos_max", Form::Same),
    ("retain_available", "retain_available", Form::Same),
    ("wildcard_subscription", "wildcard_subscriptions", Form::Same),
    ("shared_subscription", "shared_subscriptions", Form::Same),
    ("shared_subscription_strategy", "shared_strategy", Form::Word),
    ("exclusive_subscription", "exclusive_subscriptions", Form::Same),
    ("ignore_loop_deliver", "ignore_loop_deliver", Form::Same),
    ("keepalive_multiplier", "keep_alive_multiplier", Form::Same),
    ("server_keepalive", "server_keep_alive_secs", Form::Same),
    ("max_inflight", "inflight_max", Form::Same),
    ("max_awaiting_rel", "awaiting_rel_max", Form::Same),
    ("await_rel_timeout", "await_rel_timeout_secs", Form::Secs),
    ("retry_interval", "retry_interval_secs", Form::Secs),
    ("max_mqueue_len", "mqueue_max", Form::Same),
    ("mqueue_default_priority", "mqueue_default_priority", Form::Word),
    ("mqueue_store_qos0", "mqueue_store_qos0", Form::Same),
    ("session_expiry_interval", "session_expiry_secs", Form::Secs),
    ("message_expiry_interval", "message_expiry_secs_max", Form::Secs),
    ("max_subscriptions", "subscriptions_max", Form::Same),
    ("upgrade_qos", "upgrade_qos", Form::Same),
    ("use_username_as_clientid", "username_as_client_id", Form::Same),
    ("peer_cert_as_username", "peer_cert_as_username", Form::Word),
    ("peer_cert_as_clientid", "peer_cert_as_client_id", Form::Word),
    ("response_information", "response_information", Form::Same),
];

/// The words that are the same here.
const WORDS: &[&str] = &[
    "round_robin",
    "round_robin_per_group",
    "random",
    "sticky",
    "hash_clientid",
    "hash_topic",
    "lowest",
    "highest",
    "disabled",
    "cn",
    "dn",
];

pub(super) fn take(imported: &mut Imported, mqtt: &Json) {
    for (name, value) in entries(mqtt) {
        let known = LIMITS.iter().find(|(from, ..)| from == name);
        let made = known.and_then(|(_, key, form)| {
            let made = match (form, value.as_str()) {
                // No bound, or not at all: what is left out is our default.
                (_, Some("infinity" | "disabled")) if *key == "message_expiry_secs_max" => FOR_EVER.into(),
                (Form::Word, Some(word)) => WORDS.contains(&word).then(|| Value::from(word))?,
                (Form::Word, None) => return None,
                (Form::Bytes, _) => bytes(value)?.into(),
                (Form::Secs, _) => seconds(value)?.into(),
                (Form::Same, Some("infinity" | "disabled")) => return None,
                (Form::Same, _) => plain(value)?,
            };
            Some((*key, made))
        });
        match made {
            Some((key, made)) => imported.set(&["mqtt", key], made),
            None if name == "mqueue_priorities" && value.is_object() => {
                let priorities: Table =
                    entries(value).filter_map(|(topic, priority)| Some((topic.clone(), priority.as_i64()?.into()))).collect();
                imported.set(&["mqtt", "mqueue_priorities"], priorities);
            }
            None if matches!(value.as_str(), Some("infinity" | "disabled")) || name == "mqueue_priorities" || name == "strict_mode" => {}
            None => imported.note(format!("mqtt.{name} = {value}: has no counterpart")),
        }
    }
}

pub(super) fn take_retainer(imported: &mut Imported, retainer: &Json) {
    if retainer["enable"] == Json::Bool(false) {
        imported.set(&["mqtt", "retain_available"], false);
    }
    if let Some(secs) = seconds(&retainer["msg_expiry_interval"]) {
        imported.set(&["mqtt", "retained_expiry_secs"], secs);
    }
    if let Some(max) = bytes(&retainer["max_payload_size"]) {
        imported.set(&["mqtt", "retained_payload_bytes_max"], max);
    }
    if let Some(max) = retainer.pointer("/backend/max_retained_messages").and_then(Json::as_i64).filter(|max| *max > 0) {
        imported.set(&["mqtt", "retained_max"], max);
    }
}

pub(super) fn take_sys(imported: &mut Imported, sys: &Json) {
    for (from, key) in [("sys_msg_interval", "interval_secs"), ("sys_heartbeat_interval", "heartbeat_secs")] {
        if let Some(secs) = seconds(&sys[from]) {
            imported.set(&["sys", key], secs);
        }
    }
}

/// Rewrites and subscriptions by the broker.
pub(super) fn take_topics(imported: &mut Imported, config: &Map<String, Json>) {
    for rewrite in config.get("rewrite").and_then(Json::as_array).into_iter().flatten() {
        let keys = [("action", "action"), ("source_topic", "source_topic"), ("re", "re"), ("dest_topic", "dest_topic")];
        let made: Table = keys.iter().filter_map(|(from, key)| Some(((*key).to_owned(), plain(&rewrite[*from])?))).collect();
        imported.push(&["rewrite"], made);
    }
    let topics = config.get("auto_subscribe").and_then(|auto| auto["topics"].as_array());
    for topic in topics.into_iter().flatten() {
        let mut made = Table::new();
        for (from, key) in [("topic", "topic"), ("qos", "qos"), ("rh", "retain_handling")] {
            made.extend(plain(&topic[from]).map(|value| (key.to_owned(), value)));
        }
        for (from, key) in [("nl", "no_local"), ("rap", "retain_as_published")] {
            made.extend(topic[from].as_i64().map(|flag| (key.to_owned(), Value::from(flag == 1))));
        }
        imported.push(&["auto_subscribe"], made);
    }
    if let Some(max) = config.get("delayed").and_then(|delayed| delayed["max_delayed_messages"].as_i64()).filter(|max| *max > 0) {
        imported.set(&["delayed", "messages_max"], max);
    }
}
