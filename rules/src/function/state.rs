//! What rules remember from event to event: `kv_store_*` for the whole node, durable where the broker has installed a backend, and
//! `proc_dict_*` for each client, in memory.

use std::collections::HashMap;
use std::io;
use std::sync::{LazyLock, OnceLock};

use bytes::Bytes;
use hookline_schemas::Value;
use hookline_schemas::record::{decode_row, encode_row};
use parking_lot::{Mutex, RwLock};

use super::argument::{text_of, wrong};
use super::{Function, of_event, varying};
use crate::context::Context;
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    varying(
        "kv_store_put",
        2..=2,
        kv_store_put,
        "Remembers a value under a key for all rules of this node; true.",
        ("kv_store_put('example_put', 5)", "true"),
    ),
    varying(
        "kv_store_get",
        1..=2,
        kv_store_get,
        "The value that was remembered under a key, or a default.",
        ("kv_store_get('example_get', 0)", "0"),
    ),
    varying("kv_store_del", 1..=1, kv_store_del, "Forgets a key; true.", ("kv_store_del('example_del')", "true")),
    of_event(
        "proc_dict_put",
        2..=2,
        proc_dict_put,
        "Remembers a value under a key for the client of this event; the value that was there before.",
        ("proc_dict_put('example_put', 5)", "null"),
    ),
    of_event(
        "proc_dict_get",
        1..=1,
        proc_dict_get,
        "The value that was remembered under a key for the client of this event.",
        ("proc_dict_get('example_get')", "null"),
    ),
    of_event(
        "proc_dict_del",
        1..=1,
        proc_dict_del,
        "Forgets a key of the client of this event; the value that was there.",
        ("proc_dict_del('example_del')", "null"),
    ),
];

/// The most keys of the node's table.
const KEYS_MAX: usize = 100_000;
/// The most bytes of the node's table, and of all clients' dictionaries together.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most bytes of one client's dictionary.
const CLIENT_BYTES_MAX: usize = 256 * 1024;
/// What an entry takes beside its key and value, about.
const ENTRY_BYTES: usize = 64;

/// Where the node's table is kept between runs of the broker.
///
/// `put` and `delete` are called by workers while they handle an event, one call at a time: they must not wait for a disk. Values are
/// opaque bytes.
pub trait KvBackend: Send + Sync {
    /// All keys with their values. Called once, before any other.
    fn load(&self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// Sets a key.
    fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()>;
    /// Takes a key out.
    fn delete(&self, key: &[u8]) -> io::Result<()>;
}

static BACKEND: OnceLock<Box<dyn KvBackend>> = OnceLock::new();
static STORE: LazyLock<RwLock<Store>> = LazyLock::new(RwLock::default);
static CLIENTS: LazyLock<Mutex<Clients>> = LazyLock::new(Mutex::default);

/// Makes the node's table durable: reads what the backend has, and tells it of every change from now on. Gives the number of keys.
///
/// # Errors
/// What the backend could not read, a value that is damaged, and a backend that is installed already.
pub fn install_kv_backend(backend: Box<dyn KvBackend>) -> io::Result<usize> {
    let mut store = STORE.write();
    if BACKEND.get().is_some() {
        return Err(io::Error::other("kv_store has a backend already"));
    }
    for (key, value) in backend.load()? {
        let bytes = value.len();
        let value = decode_row(&Bytes::from(value)).map_err(io::Error::other)?;
        store.insert(&key, value, bytes);
    }
    // Nobody else sets it: it is done under the lock.
    BACKEND.get_or_init(|| backend);
    Ok(store.entries.len())
}

/// Forgets what rules have remembered for a client: its connection is gone.
pub fn forget_client(client_id: &str) {
    CLIENTS.lock().remove(client_id);
}

/// Keys and values with their sizes.
#[derive(Default)]
struct Store {
    entries: HashMap<Box<[u8]>, (Value, usize)>,
    bytes: usize,
}

impl Store {
    fn get(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// What the table would take with this entry in the place of one of the same key.
    fn bytes_with(&self, key: &[u8], value_bytes: usize) -> usize {
        let before = self.entries.get(key).map_or(0, |(_, size)| *size);
        self.bytes - before + key.len() + value_bytes + ENTRY_BYTES
    }

    /// Sets a key; gives the value that it had.
    fn insert(&mut self, key: &[u8], value: Value, value_bytes: usize) -> Option<Value> {
        let size = key.len() + value_bytes + ENTRY_BYTES;
        let before = self.entries.insert(key.into(), (value, size));
        self.bytes += size;
        let (before, size) = before?;
        self.bytes -= size;
        Some(before)
    }

    fn remove(&mut self, key: &[u8]) -> Option<Value> {
        let (value, size) = self.entries.remove(key)?;
        self.bytes -= size;
        Some(value)
    }
}

/// Texts are their own key, other simple values by their text.
fn key(value: &Value) -> Result<Vec<u8>, EvalError> {
    match value {
        Value::Text(_) | Value::Bytes(_) => Ok(value.as_bytes().unwrap_or_default().to_vec()),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => Ok(text_of(value).into_bytes()),
        other => Err(wrong("a key that is a string or a number", other)),
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode_row(&mut out, value);
    out
}

fn kv_store_put(args: &[Value]) -> Result<Value, EvalError> {
    let (key, value) = (key(&args[0])?, encoded(&args[1]));
    let mut store = STORE.write();
    let is_new = store.get(&key).is_none();
    if is_new && store.entries.len() >= KEYS_MAX {
        return Err(EvalError::new(format!("the table is full: it has {KEYS_MAX} keys; take keys out with kv_store_del")));
    }
    if store.bytes_with(&key, value.len()) > BYTES_MAX {
        return Err(EvalError::new(format!("the table is full: it has at most {BYTES_MAX} bytes; take keys out with kv_store_del")));
    }
    // The backend hears of changes in their order: under the lock.
    if let Some(backend) = BACKEND.get() {
        backend.put(&key, &value).map_err(|error| EvalError::new(format!("the value cannot be stored: {error}")))?;
    }
    store.insert(&key, args[1].clone(), value.len());
    Ok(Value::Bool(true))
}

fn kv_store_get(args: &[Value]) -> Result<Value, EvalError> {
    let key = key(&args[0])?;
    let found = STORE.read().get(&key).cloned();
    Ok(found.or_else(|| args.get(1).cloned()).unwrap_or_default())
}

fn kv_store_del(args: &[Value]) -> Result<Value, EvalError> {
    let key = key(&args[0])?;
    let mut store = STORE.write();
    if let (Some(_), Some(backend)) = (store.get(&key), BACKEND.get()) {
        backend.delete(&key).map_err(|error| EvalError::new(format!("the key cannot be taken out: {error}")))?;
    }
    store.remove(&key);
    Ok(Value::Bool(true))
}

/// The dictionaries of clients. When all together are too large, those that were used longest ago go.
#[derive(Default)]
struct Clients {
    by_id: HashMap<Box<str>, Dictionary>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
}

#[derive(Default)]
struct Dictionary {
    store: Store,
    used_at: u64,
}

impl Clients {
    fn remove(&mut self, client_id: &str) {
        if let Some(gone) = self.by_id.remove(client_id) {
            self.bytes -= gone.store.bytes;
        }
    }

    /// Frees the older half. It is rare, and so is the price of looking at all.
    fn shrink(&mut self) {
        let mut ages: Vec<u64> = self.by_id.values().map(|dictionary| dictionary.used_at).collect();
        let middle = ages.len() / 2;
        if ages.is_empty() {
            return;
        }
        let (_, limit, _) = ages.select_nth_unstable(middle);
        let limit = *limit;
        self.by_id.retain(|_, dictionary| dictionary.used_at >= limit);
        self.bytes = self.by_id.values().map(|dictionary| dictionary.store.bytes).sum();
    }

    /// Does something with a client's dictionary, which is made where there is none.
    fn with<T>(&mut self, client_id: &str, act: impl FnOnce(&mut Store) -> T) -> T {
        self.clock += 1;
        let dictionary = self.by_id.entry(client_id.into()).or_default();
        dictionary.used_at = self.clock;
        let before = dictionary.store.bytes;
        let done = act(&mut dictionary.store);
        self.bytes = self.bytes - before + dictionary.store.bytes;
        let is_empty = dictionary.store.entries.is_empty();
        if is_empty {
            self.remove(client_id);
        }
        if self.bytes > BYTES_MAX {
            self.shrink();
        }
        done
    }
}

/// The client whose dictionary it is; events without a client share one.
fn client(context: &Context<'_>) -> Value {
    context.column("clientid")
}

fn proc_dict_put(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    let (key, value_bytes) = (key(&args[0])?, encoded(&args[1]).len());
    CLIENTS.lock().with(client(context).as_text().unwrap_or_default(), |store| {
        if store.bytes_with(&key, value_bytes) > CLIENT_BYTES_MAX {
            return Err(EvalError::new(format!("a client's dictionary has at most {CLIENT_BYTES_MAX} bytes")));
        }
        Ok(store.insert(&key, args[1].clone(), value_bytes).unwrap_or_default())
    })
}

fn proc_dict_get(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    let key = key(&args[0])?;
    let found = CLIENTS.lock().with(client(context).as_text().unwrap_or_default(), |store| store.get(&key).cloned());
    Ok(found.unwrap_or_default())
}

fn proc_dict_del(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    let key = key(&args[0])?;
    let found = CLIENTS.lock().with(client(context).as_text().unwrap_or_default(), |store| store.remove(&key));
    Ok(found.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_balance() {
        let mut store = Store::default();
        assert_eq!(store.insert(b"a", Value::Int(1), 2), None);
        assert_eq!(store.insert(b"a", Value::text("longer"), 8), Some(Value::Int(1)));
        assert_eq!(store.bytes, 1 + 8 + ENTRY_BYTES);
        assert_eq!(store.remove(b"a"), Some(Value::text("longer")));
        assert_eq!(store.bytes, 0);
    }

    #[test]
    fn the_dictionaries_used_longest_ago_go() {
        let mut clients = Clients::default();
        for client in ["a", "b", "c", "d"] {
            clients.with(client, |store| store.insert(b"k", Value::Int(1), 2));
        }
        clients.shrink();
        assert_eq!(clients.by_id.len(), 2);
        assert_eq!(clients.with("d", |store| store.get(b"k").cloned()), Some(Value::Int(1)));
        clients.with("d", |store| store.remove(b"k"));
        clients.remove("c");
        assert_eq!((clients.by_id.len(), clients.bytes), (0, 0));
    }
}
