//! A zone: limits and behaviour of the clients of some listeners, and what they use together.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_schemas::config::{Config, DurabilityLevel, Mqtt};

use crate::HashMap;
use crate::limiter::SharedThrottle;

/// The settings of a listener's clients, merged: the zone's own, then `[mqtt]`, then the defaults.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) name: Arc<str>,
    pub(crate) limits: Mqtt,
    /// What an acknowledgement waits for.
    pub(crate) level: DurabilityLevel,
    /// What all clients of the zone may send together.
    pub(crate) throttle: Option<SharedThrottle>,
}

/// All zones.
#[derive(Debug)]
pub(crate) struct Zones {
    /// Of listeners that name none, and of what no client has caused.
    pub(crate) default: Arc<Zone>,
    named: HashMap<Arc<str>, Arc<Zone>>,
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
        let zone = |name: &str, limits: Mqtt| {
            let level = limits.durability.unwrap_or(config.store.level);
            let throttle = SharedThrottle::new(limits.zone_messages_per_sec.into(), limits.zone_bytes_per_sec);
            Arc::new(Zone { name: name.into(), level, throttle, limits })
        };
        let mut zones = Zones { default: zone(DEFAULT, config.mqtt.clone()), named: HashMap::default() };
        for (name, limits) in named {
            let zone = zone(name, limits);
            if name == DEFAULT {
                zones.default = Arc::clone(&zone);
            }
            zones.named.insert(Arc::clone(&zone.name), zone);
        }
        Ok(zones)
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
