//! Who may not connect: by client identifier, user name or address, for a while or for ever. And clients that come and go
//! too often, which are banned by themselves.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use hookline_schemas::config::{Ban, Mqtt};
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};

use crate::{HashMap, clock};

/// Milliseconds since the Unix epoch; `u64::MAX` is for ever.
type Until = u64;

/// The bans in force.
#[derive(Debug, Default)]
pub(crate) struct Bans {
    lists: RwLock<Lists>,
    /// When a client's window began, and how often it has connected since.
    flapping: Mutex<HashMap<Box<str>, (Instant, u32)>>,
}

#[derive(Debug, Default)]
struct Lists {
    client_ids: HashMap<String, Until>,
    usernames: HashMap<String, Until>,
    networks: Vec<(IpNet, Until)>,
}

/// Clients whose connects are counted at a time, and bans: the oldest make room.
const CLIENTS_MAX: usize = 100_000;

impl Bans {
    /// Takes the bans of the configuration, which was checked before.
    pub(crate) fn new(bans: &[Ban]) -> Bans {
        let mut lists = Lists::default();
        for ban in bans.iter().filter_map(|ban| Parsed::new(ban).ok()) {
            match ban {
                Parsed::ClientId(id, until) => drop(lists.client_ids.insert(id, until)),
                Parsed::Username(name, until) => drop(lists.usernames.insert(name, until)),
                Parsed::Network(network, until) => lists.networks.push((network, until)),
            }
        }
        Bans { lists: RwLock::new(lists), flapping: Mutex::default() }
    }

    /// Whether the address is banned.
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        let lists = self.lists.read();
        let address = address.to_canonical();
        lists.networks.iter().any(|(network, until)| network.contains(&address) && is_in_force(*until))
    }

    /// Whether the client is banned by one of its names.
    pub(crate) fn has_client(&self, client_id: &str, username: Option<&str>) -> bool {
        let lists = self.lists.read();
        let is_in = |list: &HashMap<String, Until>, name: &str| list.get(name).copied().is_some_and(is_in_force);
        is_in(&lists.client_ids, client_id) || username.is_some_and(|name| is_in(&lists.usernames, name))
    }

    /// Counts a connect; whether the client has connected too often, and is banned from now on.
    pub(crate) fn is_flapping(&self, client_id: &str, limits: &Mqtt) -> bool {
        if limits.flapping_max == 0 {
            return false;
        }
        let (now, window) = (Instant::now(), Duration::from_secs(limits.flapping_window_secs.into()));
        let mut flapping = self.flapping.lock();
        if flapping.len() >= CLIENTS_MAX {
            flapping.retain(|_, (began, _)| now.saturating_duration_since(*began) < window);
            if flapping.len() >= CLIENTS_MAX {
                flapping.clear();
            }
        }
        let (began, count) = flapping.entry(client_id.into()).or_insert((now, 0));
        if now.saturating_duration_since(*began) >= window {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        let banned = *count > limits.flapping_max;
        if banned {
            flapping.remove(client_id);
            drop(flapping);
            self.ban_client(client_id, Duration::from_secs(limits.flapping_ban_secs.into()));
        }
        banned
    }

    fn ban_client(&self, client_id: &str, time: Duration) {
        let mut lists = self.lists.write();
        if lists.client_ids.len() >= CLIENTS_MAX {
            lists.client_ids.retain(|_, until| is_in_force(*until));
        }
        lists.client_ids.insert(client_id.to_owned(), clock::now_ms() + time.as_millis() as u64);
    }
}

fn is_in_force(until: Until) -> bool {
    until == Until::MAX || clock::now_ms() < until
}

/// A ban of the configuration.
enum Parsed {
    ClientId(String, Until),
    Username(String, Until),
    Network(IpNet, Until),
}

impl Parsed {
    fn new(ban: &Ban) -> Result<Parsed, String> {
        let until = match &ban.until {
            Some(text) => clock::parse_ms(text).ok_or_else(|| format!("until: \"{text}\" is no time such as 2026-12-31T00:00:00Z"))?,
            None => Until::MAX,
        };
        match (&ban.clientid, &ban.username, &ban.address) {
            (Some(id), None, None) => Ok(Parsed::ClientId(id.clone(), until)),
            (None, Some(name), None) => Ok(Parsed::Username(name.clone(), until)),
            (None, None, Some(address)) => Ok(Parsed::Network(network(address).map_err(|problem| format!("address: {problem}"))?, until)),
            (None, None, None) => Err("one of clientid, username and address must be set".into()),
            _ => Err("only one of clientid, username and address may be set; write a ban of its own for each".into()),
        }
    }
}

/// What is wrong with a ban.
pub(crate) fn check_ban(ban: &Ban) -> Result<(), String> {
    Parsed::new(ban).map(drop)
}

/// A network, or a single address as one.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let parsed = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    parsed.map_err(|_| format!("\"{text}\" is no address or network, such as 10.1.2.3 or 10.0.0.0/8"))
}

/// Who may connect to a listener, by address.
#[derive(Debug, Default)]
pub(crate) struct AccessRules(Vec<(bool, Option<IpNet>)>);

impl AccessRules {
    /// Reads rules such as `allow 10.0.0.0/8` and `deny all`.
    ///
    /// # Errors
    /// What is wrong with the first that is no rule.
    pub(crate) fn new(rules: &[String]) -> Result<AccessRules, String> {
        let parse = |rule: &String| {
            let (word, rest) =
                rule.trim().split_once(char::is_whitespace).ok_or_else(|| format!("\"{rule}\" is not of the form \"allow ADDRESS\""))?;
            let allow = match word {
                "allow" => true,
                "deny" => false,
                _ => return Err(format!("\"{rule}\" begins with neither \"allow\" nor \"deny\"")),
            };
            let rest = rest.trim();
            Ok((allow, if rest == "all" { None } else { Some(network(rest)?) }))
        };
        rules.iter().map(parse).collect::<Result<_, _>>().map(AccessRules)
    }

    /// The first rule that matches decides; where none does, the address is allowed.
    pub(crate) fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let found = self.0.iter().find(|(_, network)| network.is_none_or(|network| network.contains(&address)));
        found.is_none_or(|(allow, _)| *allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_first_access_rule_that_matches_decides() {
        let rules = |rules: &[&str]| AccessRules::new(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>());
        let some = rules(&["deny 10.1.2.3", "allow 10.0.0.0/8", "allow 2001:db8::/32", "deny all"]).expect("valid");
        let expect = [("10.1.2.3", false), ("10.9.9.9", true), ("::ffff:10.9.9.9", true), ("2001:db8::1", true), ("192.0.2.1", false)];
        for (address, allowed) in expect {
            assert_eq!(some.allow(ip(address)), allowed, "{address}");
        }
        assert!(rules(&[]).expect("valid").allow(ip("192.0.2.1")));
        assert!(rules(&["allow 10.0.0.0/99"]).is_err() && rules(&["permit all"]).is_err() && rules(&["allow"]).is_err());
    }

    #[test]
    fn bans_hold_for_their_time() {
        let ban = |text: &str| serde_json::from_str::<Ban>(text).expect("valid JSON");
        let bans = Bans::new(&[
            ban(r#"{"clientid": "c"}"#),
            ban(r#"{"username": "u", "until": "2001-01-01T00:00:00Z"}"#),
            ban(r#"{"address": "10.1.0.0/16", "until": "2999-01-01T00:00:00Z"}"#),
        ]);
        assert!(bans.has_client("c", None) && !bans.has_client("d", Some("u")), "the second is over");
        assert!(bans.has_address(ip("10.1.2.3")) && !bans.has_address(ip("10.2.2.3")));
        assert!(check_ban(&ban(r#"{"clientid": "c", "username": "u"}"#)).is_err() && check_ban(&ban("{}")).is_err());
        assert!(check_ban(&ban(r#"{"clientid": "c", "until": "tomorrow"}"#)).is_err());
    }

    #[test]
    fn who_connects_too_often_is_banned() {
        let bans = Bans::default();
        let limits = Mqtt { flapping_max: 3, ..Mqtt::default() };
        assert!((0..3).all(|_| !bans.is_flapping("c", &limits)));
        assert!(bans.is_flapping("c", &limits) && bans.has_client("c", None));
        assert!(!bans.is_flapping("d", &limits) && !bans.has_client("d", None));
    }
}
