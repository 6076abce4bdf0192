//! Counters. Each worker has its own, so that counting costs no shared cache line; readers add them up. What is counted
//! before a client has a worker is counted for all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookline_mqtt::ReasonCode;
use hookline_schemas::event::DropReason;

use crate::clock;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $topic:literal;)*) => {
        /// The counters of one worker.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(crate) $name: AtomicU64,)*
            dropped: [AtomicU64; DropReason::ALL.len()],
            packets_received: [AtomicU64; 16],
            packets_sent: [AtomicU64; 16],
            /// The longest turn since it was looked at last, milliseconds; 0: none was long.
            long_turn_ms: AtomicU64,
        }

        /// The sums of all workers, at one moment.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Totals {
            $($(#[$doc])* pub $name: u64,)*
            /// Drops by reason, in the order of [`DropReason::ALL`].
            pub dropped: [u64; DropReason::ALL.len()],
            /// Packets that came in, by type.
            pub packets_received: [u64; 16],
            /// Packets that went out, by type.
            pub packets_sent: [u64; 16],
        }

        impl Totals {
            /// Adds the counters of one worker.
            pub fn add(&mut self, counters: &Counters) {
                let add = |sum: &mut u64, counter: &AtomicU64| *sum += counter.load(Ordering::Relaxed);
                $(add(&mut self.$name, &counters.$name);)*
                self.dropped.iter_mut().zip(&counters.dropped).for_each(|(sum, counter)| add(sum, counter));
                self.packets_received.iter_mut().zip(&counters.packets_received).for_each(|(sum, counter)| add(sum, counter));
                self.packets_sent.iter_mut().zip(&counters.packets_sent).for_each(|(sum, counter)| add(sum, counter));
            }

            /// Every counter with its topic below `metrics/`.
            fn named(&self) -> Vec<(String, u64)> {
                vec![$(($topic.to_owned(), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Connections that were served.
    connected: "client/connected";
    /// Connections that ended.
    disconnected: "client/disconnected";
    /// PUBLISH packets that came in.
    received: "messages/received";
    /// PUBLISH packets that went out.
    sent: "messages/sent";
    /// Of those that came in, at QoS 0.
    received_qos0: "messages/qos0/received";
    /// At QoS 1.
    received_qos1: "messages/qos1/received";
    /// At QoS 2.
    received_qos2: "messages/qos2/received";
    /// Of those that went out, at QoS 0.
    sent_qos0: "messages/qos0/sent";
    /// At QoS 1.
    sent_qos1: "messages/qos1/sent";
    /// At QoS 2.
    sent_qos2: "messages/qos2/sent";
    /// Messages that were published: by clients, wills and rules; delayed ones when they come, and when they are due.
    published: "messages/publish";
    /// Messages that subscribers acknowledged.
    acked: "messages/acked";
    /// Messages that wait for their time.
    delayed: "messages/delayed";
    /// Messages sent again on the same connection, because no acknowledgement came.
    resent: "messages/resent";
    /// Messages that another member of a shared subscription got, because the first was gone.
    redispatched: "messages/redispatched";
    /// Retained messages that found no room and nobody to refuse; their topics have none then.
    retained_refused: "messages/retained/refused";
    /// Bytes of MQTT that came in.
    bytes_received: "bytes/received";
    /// Bytes of MQTT that went out.
    bytes_sent: "bytes/sent";
    /// Publishes that were refused instead of acknowledged.
    refused: "packets/publish/refused";
    /// Of those, because a sink did not take the message in time.
    undelivered: "packets/publish/undelivered";
    /// Of those, because the client has no right to it.
    publish_auth_errors: "packets/publish/auth_error";
    /// QoS 2: publishes under an identifier that still waits for its PUBREL.
    publish_in_use: "packets/publish/inuse";
    /// Acknowledgements of nothing that is on its way: PUBACK.
    puback_missed: "packets/puback/missed";
    /// PUBREC.
    pubrec_missed: "packets/pubrec/missed";
    /// PUBREL.
    pubrel_missed: "packets/pubrel/missed";
    /// PUBCOMP.
    pubcomp_missed: "packets/pubcomp/missed";
    /// CONNECTs that were refused.
    connack_errors: "packets/connack/error";
    /// Of those, because of the name, what was to prove it, or a missing right.
    connack_auth_errors: "packets/connack/auth_error";
    /// Publishes and subscriptions that a client was allowed.
    allowed: "authorization/allow";
    /// Those that it was not.
    denied: "authorization/deny";
    /// SUBSCRIBEs of which a filter was refused.
    subscribe_errors: "packets/subscribe/error";
    /// Of those, because the client has no right to it.
    subscribe_auth_errors: "packets/subscribe/auth_error";
    /// Acknowledgements that waited for the store.
    committed: "messages/committed";
    /// Packets that broke the protocol.
    protocol_errors: "packets/protocol_error";
    /// Times that a connection was read later because it, its listener or its zone sent too much.
    throttled: "client/throttled";
    /// Sessions that were made.
    sessions_created: "session/created";
    /// Sessions that went on.
    sessions_resumed: "session/resumed";
    /// Sessions that moved to a newer connection.
    sessions_taken_over: "session/takenover";
    /// Sessions that ended because of a clean start.
    sessions_discarded: "session/discarded";
    /// Sessions that ended.
    sessions_ended: "session/terminated";
    /// Subscriptions that were made.
    subscribed: "client/subscribe";
    /// Subscriptions that ended.
    unsubscribed: "client/unsubscribe";
    /// Of those that were made, shared ones.
    shared_subscribed: "client/subscribe/shared";
    /// Of those that ended, shared ones.
    shared_unsubscribed: "client/unsubscribe/shared";
    /// Of those that were made, those of durable sessions.
    durable_subscribed: "client/subscribe/durable";
    /// Of those that ended, those of durable sessions.
    durable_unsubscribed: "client/unsubscribe/durable";
}

/// A turn of a worker is long from here on: all its clients have waited for it.
const LONG_TURN: Duration = Duration::from_millis(240);

/// The type of a CONNECT packet.
pub(crate) const CONNECT: usize = 1;
/// The type of a CONNACK packet.
pub(crate) const CONNACK: usize = 2;

/// What the packet types are called below `metrics/packets/`.
const PACKET_NAMES: [&str; 16] = [
    "",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        Counters::add(counter, 1);
    }

    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        // Only the worker itself writes: a plain add is enough.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(crate) fn count_drop(&self, reason: DropReason) {
        Counters::count(&self.dropped[reason as usize]);
    }

    /// Counts a packet by its first byte.
    pub(crate) fn count_received(&self, first: u8) {
        Counters::count(&self.packets_received[usize::from(first >> 4)]);
    }

    /// Counts a packet by its first byte.
    pub(crate) fn count_sent(&self, first: u8) {
        Counters::count(&self.packets_sent[usize::from(first >> 4)]);
    }

    /// Counts a CONNECT that is refused.
    pub(crate) fn count_connack_error(&self, reason: ReasonCode) {
        Counters::count(&self.connack_errors);
        Counters::add(&self.connack_auth_errors, u64::from(is_auth_error(reason)));
    }

    /// Takes note of how long a turn took.
    pub(crate) fn note_turn(&self, took: Duration) {
        if took >= LONG_TURN {
            self.long_turn_ms.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
        }
    }

    /// The longest turn since the last call, milliseconds, where one was long.
    pub(crate) fn take_long_turn(&self) -> Option<u64> {
        Some(self.long_turn_ms.swap(0, Ordering::Relaxed)).filter(|ms| *ms > 0)
    }
}

/// Whether it was the name, what was to prove it, or a missing right.
fn is_auth_error(reason: ReasonCode) -> bool {
    matches!(reason, ReasonCode::NotAuthorized | ReasonCode::BadUserNameOrPassword)
}

impl Totals {
    /// Connections now.
    pub fn connections(&self) -> u64 {
        self.connected.saturating_sub(self.disconnected)
    }

    /// Sessions now.
    pub fn sessions(&self) -> u64 {
        self.sessions_created.saturating_sub(self.sessions_ended)
    }

    /// Subscriptions now.
    pub fn subscriptions(&self) -> u64 {
        self.subscribed.saturating_sub(self.unsubscribed)
    }

    /// Shared subscriptions now.
    pub fn shared_subscriptions(&self) -> u64 {
        self.shared_subscribed.saturating_sub(self.shared_unsubscribed)
    }

    /// Subscriptions of durable sessions now.
    pub fn durable_subscriptions(&self) -> u64 {
        self.durable_subscribed.saturating_sub(self.durable_unsubscribed)
    }

    /// Adds the CONNECTs that were answered before their clients had a worker.
    pub(crate) fn add_strangers(&mut self, strangers: &Strangers) {
        let answered = strangers.answered.load(Ordering::Relaxed);
        self.packets_received[CONNECT] += answered;
        self.packets_sent[CONNACK] += answered;
        self.connack_errors += answered;
        self.connack_auth_errors += strangers.auth_errors.load(Ordering::Relaxed);
    }

    /// Everything that is counted, by its topic below `metrics/`.
    pub fn metrics(&self) -> Vec<(String, u64)> {
        let mut metrics = self.named();
        for (index, name) in PACKET_NAMES.iter().enumerate().skip(1) {
            metrics.push((format!("packets/{name}/received"), self.packets_received[index]));
            metrics.push((format!("packets/{name}/sent"), self.packets_sent[index]));
        }
        let drops = DropReason::ALL.iter().map(|reason| {
            let family = if reason.is_of_publisher() { "messages" } else { "delivery" };
            (family, reason.name(), self.dropped[*reason as usize])
        });
        let drops: Vec<_> = drops.collect();
        for family in ["messages", "delivery"] {
            let of_family = drops.iter().filter(|(other, ..)| *other == family);
            metrics.push((format!("{family}/dropped"), of_family.clone().map(|(.., count)| count).sum()));
            metrics.extend(of_family.map(|(_, reason, count)| (format!("{family}/dropped/{reason}"), *count)));
        }
        metrics
    }
}

macro_rules! turned_away {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// Why a connection ended before its client had a session.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Turned { $($(#[$doc])* $variant,)* }

        impl Turned {
            /// Every reason.
            pub const ALL: &'static [Turned] = &[$(Turned::$variant),*];

            /// The word in metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Turned::$variant => $name,)* }
            }
        }
    };
}

turned_away! {
    /// The listener has as many connections as it may.
    TooMany = "too_many_connections";
    /// It has as many without CONNECT as it may.
    HalfOpen = "too_many_half_open";
    /// The peer's address has as many without CONNECT as it may.
    HalfOpenOfAddress = "too_many_half_open_of_address";
    /// The listener's rules or a ban forbid the address.
    Address = "address_forbidden";
    /// The broker is at its memory bound.
    Memory = "memory";
    /// The PROXY header is missing, broken, or from somebody who is no proxy.
    Proxy = "proxy_protocol";
    /// TLS could not be agreed on.
    Tls = "tls";
    /// The WebSocket upgrade was refused.
    WebSocket = "websocket";
    /// No CONNECT came in time.
    Timeout = "connect_timeout";
    /// What came was no CONNECT.
    NoConnect = "no_connect";
    /// The CONNECT was refused.
    Refused = "connect_refused";
    /// The client or its user is banned.
    Banned = "banned";
}

/// Counts for all threads: what happens before a client has a worker.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    turned: [AtomicU64; Turned::ALL.len()],
    told_at_ms: [AtomicU64; Turned::ALL.len()],
    /// CONNACKs that refuse.
    answered: AtomicU64,
    /// Of those, because of the name, what was to prove it, or a missing right.
    auth_errors: AtomicU64,
}

/// How often connections that are turned away are logged, at most, for each reason.
const LOG_INTERVAL_MS: u64 = 1000;

impl Strangers {
    /// Counts; whether it should be logged, too, because nothing was for a while.
    pub(crate) fn count(&self, turned: Turned) -> bool {
        self.turned[turned as usize].fetch_add(1, Ordering::Relaxed);
        let told_at_ms = &self.told_at_ms[turned as usize];
        let (now, last) = (clock::now_ms(), told_at_ms.load(Ordering::Relaxed));
        now.abs_diff(last) >= LOG_INTERVAL_MS && told_at_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Counts a CONNECT that is refused with a CONNACK.
    pub(crate) fn count_connack_error(&self, reason: ReasonCode) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.auth_errors.fetch_add(u64::from(is_auth_error(reason)), Ordering::Relaxed);
    }

    /// How many there were for that reason.
    pub(crate) fn turned(&self, turned: Turned) -> u64 {
        self.turned[turned as usize].load(Ordering::Relaxed)
    }
}
