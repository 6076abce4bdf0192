//! Who may not connect: by client identifier, user name or address, for a while or for ever. And clients that come and go
//! too often, which are banned by themselves.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use hookline_schemas::Client;
use hookline_schemas::config::{Ban, Mqtt};
use hookline_schemas::ports::SOURCE_CLIENT;
use ipnet::IpNet;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

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
    client_ids: HashMap<String, Entry>,
    usernames: HashMap<String, Entry>,
    hosts: HashMap<IpAddr, Entry>,
    networks: HashMap<IpNet, Entry>,
}

/// What is known of a ban beside whom it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    until: Until,
    at_ms: u64,
    by: Box<str>,
    reason: Box<str>,
    origin: BanOrigin,
}

/// Whom a ban is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Banned {
    ClientId(String),
    Username(String),
    Host(IpAddr),
    Network(IpNet),
}

/// Where a ban comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BanOrigin {
    /// It stands in the configuration, and only there can it be ended.
    Configuration,
    /// Somebody has asked for it. It is in the store.
    Asked,
    /// The client has come too often. It is forgotten with the broker's end.
    Flapping,
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BanInfo {
    pub banned: Banned,
    pub by: String,
    pub reason: String,
    /// Since when, milliseconds since the Unix epoch; 0 where the configuration says it.
    pub at_ms: u64,
    /// Until when; `None` is for ever.
    pub until_ms: Option<u64>,
    pub origin: BanOrigin,
}

/// Clients whose connects are counted at a time, and bans of each kind: those that are over make room.
const CLIENTS_MAX: usize = 100_000;

impl Banned {
    /// Reads whom a ban is about, by EMQX's words.
    ///
    /// # Errors
    /// There is no such word, or what it is about is no address or network.
    pub fn parse(kind: &str, who: &str) -> Result<Banned, String> {
        match kind {
            "clientid" | "username" if who.is_empty() => Err("who: must not be empty".into()),
            "clientid" => Ok(Banned::ClientId(who.to_owned())),
            "username" => Ok(Banned::Username(who.to_owned())),
            "peerhost" => match IpAddr::from_str(who) {
                Ok(address) => Ok(Banned::Host(address.to_canonical())),
                Err(_) => Err(format!("who: \"{who}\" is no address, such as 10.1.2.3")),
            },
            "peerhost_net" => match IpNet::from_str(who) {
                Ok(network) => Ok(Banned::Network(network.trunc())),
                Err(_) => Err(format!("who: \"{who}\" is no network, such as 10.0.0.0/8")),
            },
            _ => Err(format!("as: there is no \"{kind}\"; there are clientid, username, peerhost and peerhost_net")),
        }
    }

    /// EMQX's word for what it names.
    pub fn kind(&self) -> &'static str {
        match self {
            Banned::ClientId(_) => "clientid",
            Banned::Username(_) => "username",
            Banned::Host(_) => "peerhost",
            Banned::Network(_) => "peerhost_net",
        }
    }

    /// Whom it names.
    pub fn who(&self) -> String {
        match self {
            Banned::ClientId(name) | Banned::Username(name) => name.clone(),
            Banned::Host(address) => address.to_string(),
            Banned::Network(network) => network.to_string(),
        }
    }

    /// Whether it names that client.
    pub(crate) fn is(&self, client: &Client) -> bool {
        let address = client.peer.ip().to_canonical();
        match self {
            Banned::ClientId(id) => **id == *client.client_id,
            Banned::Username(name) => client.username.as_deref() == Some(name),
            Banned::Host(host) => *host == address,
            Banned::Network(network) => network.contains(&address),
        }
    }
}

impl Lists {
    fn get(&self, banned: &Banned) -> Option<&Entry> {
        match banned {
            Banned::ClientId(id) => self.client_ids.get(id),
            Banned::Username(name) => self.usernames.get(name),
            Banned::Host(address) => self.hosts.get(address),
            Banned::Network(network) => self.networks.get(network),
        }
    }

    /// Adds a ban; `false`: there is no room for one more.
    fn insert(&mut self, banned: Banned, entry: Entry) -> bool {
        fn put<K: Eq + std::hash::Hash>(list: &mut HashMap<K, Entry>, key: K, entry: Entry) -> bool {
            if list.len() >= CLIENTS_MAX {
                list.retain(|_, other| is_in_force(other.until));
            }
            let has_room = list.len() < CLIENTS_MAX || list.contains_key(&key);
            if has_room {
                list.insert(key, entry);
            }
            has_room
        }
        match banned {
            Banned::ClientId(id) => put(&mut self.client_ids, id, entry),
            Banned::Username(name) => put(&mut self.usernames, name, entry),
            Banned::Host(address) => put(&mut self.hosts, address, entry),
            Banned::Network(network) => put(&mut self.networks, network, entry),
        }
    }

    fn remove(&mut self, banned: &Banned) {
        match banned {
            Banned::ClientId(id) => drop(self.client_ids.remove(id)),
            Banned::Username(name) => drop(self.usernames.remove(name)),
            Banned::Host(address) => drop(self.hosts.remove(address)),
            Banned::Network(network) => drop(self.networks.remove(network)),
        }
    }

    fn all(&self) -> Vec<BanInfo> {
        let client_ids = self.client_ids.iter().map(|(id, entry)| (Banned::ClientId(id.clone()), entry));
        let usernames = self.usernames.iter().map(|(name, entry)| (Banned::Username(name.clone()), entry));
        let hosts = self.hosts.iter().map(|(address, entry)| (Banned::Host(*address), entry));
        let networks = self.networks.iter().map(|(network, entry)| (Banned::Network(*network), entry));
        client_ids.chain(usernames).chain(hosts).chain(networks).map(|(banned, entry)| entry.info(banned)).collect()
    }
}

impl Entry {
    fn info(&self, banned: Banned) -> BanInfo {
        BanInfo {
            banned,
            by: self.by.as_ref().into(),
            reason: self.reason.as_ref().into(),
            at_ms: self.at_ms,
            until_ms: (self.until != Until::MAX).then_some(self.until),
            origin: self.origin,
        }
    }
}

impl Bans {
    /// Takes the bans of the configuration, which was checked before.
    pub(crate) fn new(bans: &[Ban]) -> Bans {
        let mut lists = Lists::default();
        for ban in bans {
            let Ok((banned, until)) = read(ban) else { continue };
            let (by, origin) = ("the configuration".into(), BanOrigin::Configuration);
            lists.insert(banned, Entry { until, at_ms: 0, by, reason: ban.reason.as_str().into(), origin });
        }
        Bans { lists: RwLock::new(lists), flapping: Mutex::default() }
    }

    /// Adds a ban, or takes the place of an earlier one; `false`: there is no room for one more.
    pub(crate) fn put(&self, ban: &BanInfo) -> bool {
        let BanInfo { banned, by, reason, at_ms, until_ms, origin } = ban;
        let until = until_ms.unwrap_or(Until::MAX);
        let entry = Entry { until, at_ms: *at_ms, by: by.as_str().into(), reason: reason.as_str().into(), origin: *origin };
        self.lists.write().insert(banned.clone(), entry)
    }

    /// Ends a ban.
    pub(crate) fn remove(&self, banned: &Banned) {
        self.lists.write().remove(banned);
    }

    /// The ban of somebody, where it is in force.
    pub(crate) fn get(&self, banned: &Banned) -> Option<BanInfo> {
        self.lists.read().get(banned).filter(|entry| is_in_force(entry.until)).map(|entry| entry.info(banned.clone()))
    }

    /// All bans, sorted by whom they are about; of those that are over the ones apart that are to be forgotten.
    pub(crate) fn all(&self) -> (Vec<BanInfo>, Vec<BanInfo>) {
        let mut all = self.lists.read().all();
        all.sort_unstable_by(|a, b| a.banned.cmp(&b.banned));
        all.into_iter().partition(|ban| is_in_force(ban.until_ms.unwrap_or(Until::MAX)))
    }

    /// Whether the address is banned.
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        let lists = self.lists.read();
        let address = address.to_canonical();
        let is_banned = lists.hosts.get(&address).is_some_and(|entry| is_in_force(entry.until));
        is_banned || lists.networks.iter().any(|(network, entry)| network.contains(&address) && is_in_force(entry.until))
    }

    /// Whether the client is banned by one of its names.
    pub(crate) fn has_client(&self, client_id: &str, username: Option<&str>) -> bool {
        let lists = self.lists.read();
        let is_in = |list: &HashMap<String, Entry>, name: &str| list.get(name).is_some_and(|entry| is_in_force(entry.until));
        is_in(&lists.client_ids, client_id) || username.is_some_and(|name| is_in(&lists.usernames, name))
    }

    /// Whether a client is banned by its names or its address. Sources of this broker never are.
    pub(crate) fn has(&self, client: &Client) -> bool {
        let is_source = client.client_id.starts_with(SOURCE_CLIENT);
        !is_source && (self.has_address(client.peer.ip()) || self.has_client(&client.client_id, client.username.as_deref()))
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
            let at_ms = clock::now_ms();
            self.put(&BanInfo {
                banned: Banned::ClientId(client_id.to_owned()),
                by: "flapping".into(),
                reason: format!("more than {} connects within {} s", limits.flapping_max, limits.flapping_window_secs),
                at_ms,
                until_ms: Some(at_ms + u64::from(limits.flapping_ban_secs) * 1000),
                origin: BanOrigin::Flapping,
            });
        }
        banned
    }
}

fn is_in_force(until: Until) -> bool {
    until == Until::MAX || clock::now_ms() < until
}

/// Reads a ban of the configuration.
fn read(ban: &Ban) -> Result<(Banned, Until), String> {
    let until = match &ban.until {
        Some(text) => clock::parse_ms(text).ok_or_else(|| format!("until: \"{text}\" is no time such as 2026-12-31T00:00:00Z"))?,
        None => Until::MAX,
    };
    let banned = match (&ban.clientid, &ban.username, &ban.address) {
        (Some(id), None, None) => Banned::ClientId(id.clone()),
        (None, Some(name), None) => Banned::Username(name.clone()),
        (None, None, Some(address)) => match IpAddr::from_str(address) {
            Ok(address) => Banned::Host(address.to_canonical()),
            Err(_) => Banned::Network(network(address).map_err(|problem| format!("address: {problem}"))?.trunc()),
        },
        (None, None, None) => return Err("one of clientid, username and address must be set".into()),
        _ => return Err("only one of clientid, username and address may be set; write a ban of its own for each".into()),
    };
    Ok((banned, until))
}

/// What is wrong with a ban.
pub(crate) fn check_ban(ban: &Ban) -> Result<(), String> {
    read(ban).map(drop)
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
        let (all, over) = bans.all();
        assert!(over.is_empty() && all.len() == 1 && all[0].origin == BanOrigin::Flapping && all[0].until_ms.is_some(), "{all:?}");
        assert!(!bans.is_flapping("d", &limits) && !bans.has_client("d", None));
    }

    #[test]
    fn a_ban_is_said_by_words_and_names_clients() {
        let mut client = Client::internal("c");
        client.username = Some("u".into());
        client.peer = "[::ffff:10.1.2.3]:5".parse().expect("an address");
        for (kind, who, names, shown) in [
            ("clientid", "c", true, "c"),
            ("clientid", "C", false, "C"),
            ("username", "u", true, "u"),
            ("peerhost", "10.1.2.3", true, "10.1.2.3"),
            ("peerhost", "::ffff:10.1.2.4", false, "10.1.2.4"),
            ("peerhost_net", "10.1.2.9/16", true, "10.1.0.0/16"),
            ("peerhost_net", "10.2.0.0/16", false, "10.2.0.0/16"),
        ] {
            let banned = Banned::parse(kind, who).expect("valid");
            assert_eq!((banned.is(&client), banned.kind(), banned.who().as_str()), (names, kind, shown));
        }
        for (kind, who) in [("clientid", ""), ("peerhost", "10.0.0.0/8"), ("peerhost_net", "10.0.0.1"), ("clientid_re", "x")] {
            assert!(Banned::parse(kind, who).is_err(), "{kind} {who}");
        }
        let bans = Bans::default();
        let ban = |who: &str, until_ms| BanInfo {
            banned: Banned::ClientId(who.into()),
            by: "b".into(),
            reason: "r".into(),
            at_ms: 1,
            until_ms,
            origin: BanOrigin::Asked,
        };
        assert!(bans.put(&ban("a", None)) && bans.put(&ban("over", Some(2))));
        assert_eq!(bans.all(), (vec![ban("a", None)], vec![ban("over", Some(2))]));
        assert!(bans.has_client("a", None) && !bans.has_client("over", None) && bans.get(&Banned::ClientId("over".into())).is_none());
        bans.remove(&Banned::ClientId("a".into()));
        assert!(!bans.has_client("a", None));
    }
}
