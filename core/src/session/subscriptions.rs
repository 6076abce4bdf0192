//! The subscriptions of one session: most have a few, which need no table.

use super::Held;
use crate::HashMap;

/// Topic filters, as the client names them, each with how it is held. Empty costs no allocation.
#[derive(Debug)]
pub(crate) enum Subscriptions {
    Few(Vec<(Box<str>, Held)>),
    Many(Box<HashMap<Box<str>, Held>>),
}

/// So many are found by looking at each.
const FEW: usize = 16;

impl Default for Subscriptions {
    fn default() -> Self {
        Subscriptions::Few(Vec::new())
    }
}

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        match self {
            Subscriptions::Few(few) => few.len(),
            Subscriptions::Many(many) => many.len(),
        }
    }

    pub(crate) fn get(&self, filter: &str) -> Option<&Held> {
        match self {
            Subscriptions::Few(few) => few.iter().find(|(other, _)| **other == *filter).map(|(_, held)| held),
            Subscriptions::Many(many) => many.get(filter),
        }
    }

    pub(crate) fn contains(&self, filter: &str) -> bool {
        self.get(filter).is_some()
    }

    /// Adds one, or changes how it is held; whether it is new.
    pub(crate) fn insert(&mut self, filter: &str, held: Held) -> bool {
        match self {
            Subscriptions::Few(few) => {
                if let Some((_, other)) = few.iter_mut().find(|(other, _)| **other == *filter) {
                    *other = held;
                    return false;
                }
                if few.len() < FEW {
                    if few.is_empty() {
                        // Most sessions have one only.
                        few.reserve_exact(1);
                    }
                    few.push((filter.into(), held));
                } else {
                    let all = few.drain(..).chain([(filter.into(), held)]);
                    *self = Subscriptions::Many(Box::new(all.collect()));
                }
                true
            }
            Subscriptions::Many(many) => many.insert(filter.into(), held).is_none(),
        }
    }

    /// Takes one out; whether it was there.
    pub(crate) fn remove(&mut self, filter: &str) -> bool {
        match self {
            Subscriptions::Few(few) => {
                let place = few.iter().position(|(other, _)| **other == *filter);
                place.map(|place| few.swap_remove(place)).is_some()
            }
            Subscriptions::Many(many) => many.remove(filter).is_some(),
        }
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Held)> {
        let (few, many) = match self {
            Subscriptions::Few(few) => (Some(few), None),
            Subscriptions::Many(many) => (None, Some(many)),
        };
        let few = few.into_iter().flatten().map(|(filter, held)| (&**filter, *held));
        few.chain(many.into_iter().flat_map(|many| many.iter()).map(|(filter, held)| (&**filter, *held)))
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(filter, _)| filter)
    }
}

#[cfg(test)]
mod tests {
    use hookline_mqtt::packet::SubscriptionOptions;

    use super::*;

    #[test]
    fn few_and_many_are_kept_alike() {
        let held = |identifier| Held { options: SubscriptionOptions::default(), identifier };
        let mut subscriptions = Subscriptions::default();
        for number in 0..3 * FEW {
            assert!(subscriptions.insert(&format!("t/{number}"), held(0)));
            assert!(!subscriptions.insert(&format!("t/{number}"), held(number as u32)));
            assert_eq!(subscriptions.len(), number + 1);
        }
        assert_eq!(subscriptions.get("t/40").map(|held| held.identifier), Some(40));
        assert_eq!(subscriptions.iter().count(), 3 * FEW);
        for number in 0..3 * FEW {
            let filter = format!("t/{number}");
            assert!(subscriptions.contains(&filter) && subscriptions.remove(&filter) && !subscriptions.remove(&filter));
        }
        assert_eq!(subscriptions.filters().count(), 0);
    }
}
