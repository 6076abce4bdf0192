//! Bans that somebody asks for: in the store, and in force at once, also for those who are connected.

use hookline_schemas::ports::StateStore;
use serde::{Deserialize, Serialize};

use super::{NoAnswer, Observer};
use crate::bans::{BanInfo, BanOrigin, Banned, Bans};
use crate::store::{Batch, Error, Store};

/// Where they are in the store: the word and whom it is about follow.
const PREFIX: &str = "ban/";
/// Bans that one write ends.
const PART: usize = 1000;

/// What the store has of a ban.
#[derive(Serialize, Deserialize)]
struct Stored {
    by: String,
    reason: String,
    at_ms: u64,
    until_ms: Option<u64>,
}

fn key(banned: &Banned) -> Vec<u8> {
    format!("{PREFIX}{}/{}", banned.kind(), banned.who()).into_bytes()
}

/// Takes the bans over that the store has. Those that are over are left to the next look at the list.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn restore(bans: &Bans, store: &Store) -> Result<(), Error> {
    for (key, value) in store.load(PREFIX.as_bytes()).map_err(|error| Error::Read(error.0))? {
        let banned = std::str::from_utf8(&key[PREFIX.len()..]).ok().and_then(|rest| rest.split_once('/'));
        let banned = banned.and_then(|(kind, who)| Banned::parse(kind, who).ok());
        let (Some(banned), Ok(stored)) = (banned, serde_json::from_slice::<Stored>(&value)) else {
            tracing::error!(key = %String::from_utf8_lossy(&key), "a ban in the store is damaged");
            continue;
        };
        // What the configuration says of somebody stands before it.
        if bans.get(&banned).is_none() {
            let Stored { by, reason, at_ms, until_ms } = stored;
            bans.put(&BanInfo { banned, by, reason, at_ms, until_ms, origin: BanOrigin::Asked });
        }
    }
    Ok(())
}

/// What came of the wish for a ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanOutcome {
    /// It is in force; so many connections were ended by it.
    Banned { connections: usize },
    /// There is one already.
    Exists(BanInfo),
    /// There are too many.
    Full,
}

impl Observer {
    /// All bans in force, sorted by whom they are about. Those that are over are forgotten.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn bans(&self) -> Result<Vec<BanInfo>, NoAnswer> {
        let (all, over) = self.shared.bans.all();
        self.forget_bans(over).await?;
        Ok(all)
    }

    /// Bans somebody, over restarts, and ends the connections of whom it is about. Their sessions stay.
    ///
    /// # Errors
    /// The store has not taken it, or a worker has not answered: then the ban is in force, and connections may be left.
    pub async fn ban(&self, ban: BanInfo) -> Result<BanOutcome, NoAnswer> {
        if let Some(known) = self.shared.bans.get(&ban.banned) {
            return Ok(BanOutcome::Exists(known));
        }
        let BanInfo { by, reason, at_ms, until_ms, .. } = ban.clone();
        let value = serde_json::to_vec(&Stored { by, reason, at_ms, until_ms }).map_err(|error| Error::Write(error.to_string()))?;
        let (_, over) = self.shared.bans.all();
        self.forget_bans(over).await?;
        if !self.shared.bans.put(&ban) {
            return Ok(BanOutcome::Full);
        }
        let stored = key(&ban.banned);
        let kept = self
            .beside(move |store| {
                let mut batch = Batch::default();
                batch.put_state(stored, Some(value));
                store.commit_durably(&mut batch)
            })
            .await;
        if let Err(error) = kept {
            // What a restart would undo was not done.
            self.shared.bans.remove(&ban.banned);
            return Err(error);
        }
        let mut connections = 0;
        for worker in 0..self.shared.mailboxes.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let banned = ban.banned.clone();
                let (ended, behind) = self.ask(worker, move |worker| worker.end_banned(&banned, from)).await?;
                connections += ended;
                next = behind;
            }
        }
        tracing::info!(kind = ban.banned.kind(), who = ban.banned.who(), by = ban.by, connections, "banned");
        Ok(BanOutcome::Banned { connections })
    }

    /// The ban of somebody, where it is in force.
    pub fn find_ban(&self, banned: &Banned) -> Option<BanInfo> {
        self.shared.bans.get(banned)
    }

    /// Ends bans but those of the configuration; how many there were.
    ///
    /// # Errors
    /// The store has not taken it: then they are in force.
    pub async fn end_bans(&self, bans: Vec<BanInfo>) -> Result<usize, NoAnswer> {
        let ended: Vec<BanInfo> = bans.into_iter().filter(|ban| ban.origin != BanOrigin::Configuration).collect();
        let count = ended.len();
        self.forget_bans(ended).await?;
        Ok(count)
    }

    async fn forget_bans(&self, bans: Vec<BanInfo>) -> Result<(), NoAnswer> {
        for part in bans.chunks(PART) {
            let keys: Vec<_> = part.iter().filter(|ban| ban.origin == BanOrigin::Asked).map(|ban| key(&ban.banned)).collect();
            if !keys.is_empty() {
                self.beside(move |store| {
                    let mut batch = Batch::default();
                    keys.into_iter().for_each(|key| batch.put_state(key, None));
                    store.commit_durably(&mut batch)
                })
                .await?;
            }
            part.iter().for_each(|ban| self.shared.bans.remove(&ban.banned));
        }
        Ok(())
    }
}
