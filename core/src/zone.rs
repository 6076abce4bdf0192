//! A zone: limits and behaviour of the clients of some listeners, and what they use together.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_schemas::config::{Config, DefaultPriority, DurabilityLevel, Mqtt};

use crate::HashMap;
use crate::limiter::SharedThrottle;
use crate::store::Rank;

/// The settings of a listener's clients, merged: the zone's own, then `[mqtt]`, then the defaults.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Mqtt,
    /// What an acknowledgement waits for.
    pub(crate) level: DurabilityLevel,
    /// What all clients of the zone may send together.
    pub(crate) throttle: Option<SharedThrottle>,
    /// How fast its listeners accept together.
    pub(crate) connects: Option<SharedThrottle>,
    /// By what number queues know its priorities while the broker runs; 0: it has none.
    pub(crate) ranking: u16,
    /// What distinguishes its priorities from others, also after a restart.
    priorities: u16,
}

impl Zone {
    /// When a message of a topic leaves the queue of a durable session.
    pub(crate) fn rank(&self, topic: &str) -> Rank {
        if self.ranking == 0 { Rank::NONE } else { Rank::new(self.priorities, self.priority(topic)) }
    }

    /// The priority of a topic; higher goes first.
    pub(crate) fn priority(&self, topic: &str) -> u16 {
        if self.ranking == 0 {
            return 0;
        }
        let default = match self.limits.mqueue_default_priority {
            DefaultPriority::Lowest => 0,
            DefaultPriority::Highest => u16::from(u8::MAX) + 1,
        };
        self.limits.mqueue_priorities.get(topic).map_or(default, |priority| u16::from(*priority))
    }
}

/// All zones.
#[derive(Debug)]
pub(crate) struct Zones {
    /// Of listeners that name none, and of what no client has caused.
    pub(crate) default: Arc<Zone>,
    named: HashMap<Arc<str>, Arc<Zone>>,
    /// Those with priorities, each at its number less one.
    rankings: Vec<Arc<Zone>>,
}

/// What is wrong with the numbers of `[mqtt]` and of each zone, with their paths.
pub(crate) fn check(config: &Config) -> Vec<String> {
    let mut errors = check_limits("mqtt", &config.mqtt);
    for (name, zone) in &config.zones {
        if let Ok(limits) = config.mqtt.overridden(zone) {
            let of_zone = check_limits(&format!("zones.{name}.mqtt"), &limits).into_iter();
            // What is wrong for all is told once.
            let own = |error: &String| zone.mqtt.keys().any(|key| error.contains(&format!(".{key}:")));
            errors.extend(of_zone.filter(own));
        }
    }
    errors
}

fn check_limits(path: &str, limits: &Mqtt) -> Vec<String> {
    let mut errors = Vec::new();
    let mut demand = |key: &str, holds: bool, range: &str| {
        if !holds {
            errors.push(format!("{path}.{key}: must be {range}"));
        }
    };
    let multiplier = limits.keep_alive_multiplier;
    demand("keep_alive_multiplier", (1.0..=10.0).contains(&multiplier), "from 1 to 10");
    demand("qos_max", limits.qos_max <= 2, "0, 1 or 2");
    let packet = limits.packet_bytes_max;
    demand("packet_bytes_max", (64..=hookline_mqtt::write::VARINT_MAX).contains(&packet), "from 64 to 268435455");
    let from_one = [
        ("idle_timeout_secs", limits.idle_timeout_secs),
        ("connect_bytes_max", limits.connect_bytes_max as u64),
        ("client_id_bytes_max", limits.client_id_bytes_max as u64),
        ("topic_levels_max", limits.topic_levels_max as u64),
        ("inflight_max", limits.inflight_max.into()),
        ("awaiting_rel_max", limits.awaiting_rel_max.into()),
        ("mqueue_max", limits.mqueue_max as u64),
        ("mqueue_bytes_max", limits.mqueue_bytes_max as u64),
        ("durable_queue_max", limits.durable_queue_max),
        ("durable_queue_bytes_max", limits.durable_queue_bytes_max),
        ("output_bytes_max", limits.output_bytes_max as u64),
        ("subscriptions_max", limits.subscriptions_max as u64),
        ("filters_per_subscribe_max", limits.filters_per_subscribe_max as u64),
        ("sessions_max", limits.sessions_max as u64),
        ("flapping_window_secs", limits.flapping_window_secs.into()),
    ];
    for (key, number) in from_one {
        demand(key, number > 0, "1 or more; there is no value for \"without a bound\"");
    }
    for (topic, priority) in &limits.mqueue_priorities {
        let is_topic = hookline_mqtt::topic::name_is_valid(topic, usize::MAX);
        demand("mqueue_priorities", is_topic && *priority > 0, "topics without wildcards, each with a priority from 1 to 255");
    }
    errors
}

/// A number that follows from the priorities, and is mostly another one for others. Never 0.
fn distinguish_priorities(limits: &Mqtt) -> u16 {
    let text = format!("{:?} {:?}", limits.mqueue_default_priority, limits.mqueue_priorities);
    let sum = crc32c::crc32c(text.as_bytes());
    ((sum >> 16 ^ sum) as u16).max(1)
}

/// The name of the zone that is `[mqtt]` itself.
const DEFAULT: &str = "default";

impl Zones {
    /// Merges the zones of a configuration.
    ///
    /// # Errors
    /// All keys that are wrong, with their paths.
    pub(crate) fn new(config: &Config) -> Result<Zones, Vec<String>> {
        let mut errors = Vec::new();
        let named: BTreeMap<&String, Mqtt> = config
            .zones
            .iter()
            .filter_map(|(name, zone)| match config.mqtt.overridden(zone) {
                Ok(limits) => Some((name, limits)),
                Err(problem) => {
                    errors.push(format!("zones.{name}.mqtt.{problem}"));
                    None
                }
            })
            .collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut rankings = Vec::new();
        let mut zone = |name: &str, limits: Mqtt| {
            let level = limits.durability.unwrap_or(config.store.level);
            let throttle = SharedThrottle::new(limits.zone_messages_per_sec.into(), limits.zone_bytes_per_sec);
            let connects = SharedThrottle::new(limits.zone_connects_per_sec.into(), 0);
            let ranking = if limits.mqueue_priorities.is_empty() { 0 } else { rankings.len() as u16 + 1 };
            let priorities = distinguish_priorities(&limits);
            let zone = Arc::new(Zone { name: name.into(), level, throttle, connects, ranking, priorities, limits });
            rankings.extend((ranking > 0).then(|| Arc::clone(&zone)));
            zone
        };
        let mut default = zone(DEFAULT, config.mqtt.clone());
        let mut by_name = HashMap::default();
        for (name, limits) in named {
            let zone = zone(name, limits);
            if name == DEFAULT {
                default = Arc::clone(&zone);
            }
            by_name.insert(Arc::clone(&zone.name), zone);
        }
        Ok(Zones { default, named: by_name, rankings })
    }

    /// The rank that a topic has by the priorities of that number.
    pub(crate) fn rank(&self, ranking: u16, topic: &str) -> Rank {
        let zone = usize::from(ranking).checked_sub(1).and_then(|at| self.rankings.get(at));
        zone.map_or(Rank::NONE, |zone| zone.rank(topic))
    }

    /// The zone of that name; the default one where there is none (any more).
    pub(crate) fn get(&self, name: &str) -> Arc<Zone> {
        Arc::clone(self.named.get(name).unwrap_or(&self.default))
    }

    /// The strongest level that an acknowledgement waits for in any zone: what the store must do.
    pub(crate) fn strongest(&self) -> DurabilityLevel {
        let levels = self.named.values().map(|zone| zone.level).chain([self.default.level]);
        levels.min_by_key(|level| *level as u8).unwrap_or_default()
    }
}
