//! Which session a client has. The identifiers lie with the sessions only: the table has their keys.

use hashbrown::HashTable;

use super::Resident;
use crate::slab::{Key, Slab};

/// The sessions of a worker, by the identifiers of their clients.
#[derive(Debug, Default)]
pub(super) struct ByClient {
    keys: HashTable<Key>,
    hasher: foldhash::fast::RandomState,
}

impl ByClient {
    fn hash(&self, client_id: &str) -> u64 {
        std::hash::BuildHasher::hash_one(&self.hasher, client_id)
    }

    pub(super) fn find(&self, sessions: &Slab<Resident>, client_id: &str) -> Option<Key> {
        let is_its = |key: &Key| sessions.get(*key).is_some_and(|resident| *resident.session.client.client_id == *client_id);
        self.keys.find(self.hash(client_id), is_its).copied()
    }

    /// Adds a session that is in the table of sessions, and whose client had none.
    pub(super) fn insert(&mut self, sessions: &Slab<Resident>, session: Key) {
        let Self { keys, hasher } = self;
        // One that is not there any more is in no table either.
        let hash = |key: &Key| {
            let client_id = sessions.get(*key).map_or("", |resident| &*resident.session.client.client_id);
            std::hash::BuildHasher::hash_one(hasher, client_id)
        };
        keys.insert_unique(hash(&session), session, hash);
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, client_id: &str, session: Key) {
        if let Ok(entry) = self.keys.find_entry(self.hash(client_id), |key| *key == session) {
            entry.remove();
        }
    }
}
