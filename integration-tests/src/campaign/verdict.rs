//! The end of a campaign: everything is taken out of the broker, and compared with what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use super::{Campaign, MEMBERS, Name, PARTITIONS, PIPELINE, Received, SUBSCRIBER, TABLE, member_id, name_of, resume};
use crate::broker::{self, Broker};
use crate::{eventually, kafka};

/// How long one place may take to get all that it has to.
const ALL: Duration = Duration::from_secs(120);
/// A subscriber has got everything when nothing came for so long.
const REST: Duration = Duration::from_secs(3);

/// What was acknowledged, and what became of it.
#[derive(Debug)]
pub struct Verdict {
    /// Messages of the load that were acknowledged, each with its round.
    acknowledged: BTreeMap<Name, u64>,
    places: Vec<Place>,
}

/// What has reached one place.
#[derive(Debug)]
struct Place {
    name: &'static str,
    /// Acknowledged messages that are not there.
    lost: Vec<Name>,
    /// Messages that came more than once, counted as often.
    duplicates: u64,
    /// Messages that came behind later ones of their publisher.
    disorder: Vec<Name>,
}

impl Campaign {
    /// Takes everything out of a broker that was just started, and stops it. The accounts of all queues must be closed then.
    pub fn finish(mut self, broker: Broker) -> Verdict {
        self.check_retained(&broker);
        let accounts = self.publishers.iter().enumerate();
        let acknowledged: BTreeMap<Name, u64> = accounts
            .flat_map(|(publisher, account)| account.acknowledged.iter().map(move |(seq, round)| ((publisher, *seq), *round)))
            .collect();
        let subscribers = [&mut self.subscriber].into_iter().zip([SUBSCRIBER.to_owned()]);
        let subscribers = subscribers.chain(self.members.iter_mut().zip((0..MEMBERS).map(member_id)));
        std::thread::scope(|scope| {
            for (received, id) in subscribers {
                let broker = &broker;
                scope.spawn(move || take_all(broker, &id, received));
            }
        });
        let mut members = Received::default();
        for (name, count) in self.members.iter().flat_map(|member| &member.counts) {
            *members.counts.entry(*name).or_default() += count;
        }
        let places = vec![
            Place::new("subscriber", &acknowledged, &self.subscriber),
            // Of several members together no order is promised.
            Place::new("group", &acknowledged, &members),
            self.in_kafka(&acknowledged),
            self.in_sqlite(&acknowledged),
        ];
        assert!(broker.stop().success());
        self.check_accounts();
        Verdict { acknowledged, places }
    }

    /// Kafka, by an independent consumer. Duplicates must say that they are.
    fn in_kafka(&self, acknowledged: &BTreeMap<Name, u64>) -> Place {
        let mut missing: BTreeSet<Name> = acknowledged.keys().copied().collect();
        let mut looked = 0;
        let consumed = kafka::consume(&self.topic, PARTITIONS, ALL, |consumed| {
            for record in &consumed[looked..] {
                missing.remove(&name_of(&record.value));
            }
            looked = consumed.len();
            missing.is_empty()
        });
        let (mut received, mut ids) = (Received::default(), HashMap::new());
        for record in &consumed {
            let name = name_of(&record.value);
            received.count(name);
            let id = ids.entry(name).or_insert(&record.hookline_id);
            assert_eq!(*id, &record.hookline_id, "a duplicate of {name:?} has another identifier");
        }
        Place::new("kafka", acknowledged, &received)
    }

    /// SQLite, which knows the identifiers: what comes again has no effect there.
    fn in_sqlite(&self, acknowledged: &BTreeMap<Name, u64>) -> Place {
        let file = rusqlite::Connection::open(self.folder.join("data").join(TABLE.1)).expect("the file of the sink opens");
        file.busy_timeout(Duration::from_secs(5)).expect("set");
        let rows = || -> rusqlite::Result<Received> {
            let mut received = Received::default();
            let mut statement = file.prepare("SELECT publisher, seq FROM load ORDER BY place")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (publisher, seq): (i64, i64) = (row.get(0)?, row.get(1)?);
                received.count((publisher as usize, seq as u64));
            }
            Ok(received)
        };
        let deadline = Instant::now() + ALL;
        let received = eventually("SQLite has all, or its time is over", 2 * ALL, || {
            let received = rows().expect("the rows are read");
            let is_over = Instant::now() > deadline || acknowledged.keys().all(|name| received.counts.contains_key(name));
            is_over.then_some(received)
        });
        let place = Place::new("sqlite", acknowledged, &received);
        assert_eq!(place.duplicates, 0, "the sink knows what it has by its identifier");
        place
    }

    /// The account of every queue balances, and nothing is left in it.
    fn check_accounts(&self) {
        let ledgers = broker::ledgers(&self.folder);
        let names = [SUBSCRIBER, PIPELINE, TABLE.0].map(str::to_owned).into_iter().chain((0..MEMBERS).map(member_id));
        for name in names {
            let ledger =
                ledgers.iter().find(|ledger| ledger["name"] == *name).unwrap_or_else(|| panic!("{name} has an account: {ledgers:?}"));
            assert_eq!((&ledger["pending"], &ledger["dropped"]), (&0.into(), &0.into()), "{ledger}");
        }
    }
}

/// Takes all that waits for a durable session; what was not acknowledged may be there as well.
fn take_all(broker: &Broker, id: &str, received: &mut Received) {
    let mut client = resume(broker, id);
    let deadline = Instant::now() + ALL;
    while received.take(&mut client, REST).expect("the connection holds") && Instant::now() < deadline {}
    client.disconnect().expect("leaves");
}

impl Place {
    fn new(name: &'static str, acknowledged: &BTreeMap<Name, u64>, received: &Received) -> Place {
        let lost = acknowledged.keys().filter(|name| !received.counts.contains_key(*name)).copied().collect();
        let duplicates = received.counts.values().map(|count| count - 1).sum();
        Place { name, lost, duplicates, disorder: received.disorder.clone() }
    }
}

impl Verdict {
    /// How many messages were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Fails where an acknowledged message is lost, or the order of a publisher's messages was not kept.
    pub fn hold(&self) {
        for Place { name, lost, disorder, .. } in &self.places {
            let of_round: Vec<_> = lost.iter().take(10).map(|message| (message, self.acknowledged[message])).collect();
            assert!(lost.is_empty(), "{name}: {} acknowledged messages are lost, with their rounds: {of_round:?}", lost.len());
            assert!(disorder.is_empty(), "{name}: out of order: {:?}", &disorder[..disorder.len().min(10)]);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost: usize = self.places.iter().map(|place| place.lost.len()).sum();
        write!(f, "acknowledged {}, lost {lost}, duplicated:", self.acknowledged.len())?;
        self.places.iter().try_for_each(|place| write!(f, " {} {}", place.name, place.duplicates))
    }
}
