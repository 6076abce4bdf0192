//! Lists, page by page: subscriptions, topics, retained and delayed messages, what waits for a client. Each has a deadline; what walks the store
//! does so beside the workers and the runtime's own threads.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_mqtt::packet::SubscriptionOptions;
use hookline_mqtt::topic::{self, Subscription};
use hookline_mqtt::{QoS, topic::matches};
use hookline_schemas::{Message, QueueId};
use serde_json::{Value, json};

use super::{NoAnswer, Observer};
use crate::clock;
use crate::router::effective_qos;
use crate::session::{Held, decode_subscription};
use crate::store::{Batch, ChunkCache, DelayedKey, Error, Slot, Store};
use crate::worker::{Waiting, describe_subscription, time};

/// How long the making of a page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// Messages, and their bytes, that are read from the store at a time.
const PART: usize = 256;
const PART_BYTES: usize = 4 << 20;
/// Bytes of payloads in one answer, but for the last one.
const PAYLOADS_MAX: usize = 8 << 20;
/// Filters that may stand before a page of topics: the table is held while they are passed over.
pub const TOPICS_SKIP_MAX: usize = 100_000;

/// Which entries of a list are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub skip: usize,
    pub limit: usize,
}

/// A page of a list.
#[derive(Debug, Default)]
pub struct Listed {
    pub entries: Vec<Value>,
    /// How many there are on all pages; `None`: counting them would take too long.
    pub count: Option<u64>,
    pub has_more: bool,
}

/// Which subscriptions are wanted.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    pub client_id: Option<String>,
    /// The filter as it was subscribed to.
    pub topic: Option<String>,
    /// A topic that the filter matches.
    pub match_topic: Option<String>,
    pub share_group: Option<String>,
    pub qos: Option<u8>,
}

impl SubscriptionFilter {
    /// Whether a subscription is wanted, whoever's it is.
    pub(crate) fn wants(&self, filter: &str, held: Held) -> bool {
        let Held { options: SubscriptionOptions { qos, .. }, .. } = held;
        let is_topic = self.topic.as_deref().is_none_or(|wanted| wanted == filter);
        let is_qos = self.qos.is_none_or(|wanted| wanted == qos as u8);
        if !is_topic || !is_qos || self.match_topic.is_none() && self.share_group.is_none() {
            return is_topic && is_qos;
        }
        let Some(subscription) = Subscription::parse(filter) else { return false };
        let is_matched = self.match_topic.as_deref().is_none_or(|name| matches(subscription.filter(), name));
        let is_group =
            self.share_group.as_deref().is_none_or(|wanted| matches!(subscription, Subscription::Shared { group, .. } if group == wanted));
        is_matched && is_group
    }

    fn is_open(&self) -> bool {
        self.topic.is_none() && self.match_topic.is_none() && self.share_group.is_none() && self.qos.is_none()
    }
}

/// A page in the making.
struct Page {
    place: Place,
    /// Entries that have come, also those on other pages.
    seen: usize,
    entries: Vec<Value>,
    /// Entries behind the page are to be counted, too.
    counts: bool,
    deadline: Instant,
    is_late: bool,
}

impl Page {
    fn new(place: Place, counts: bool) -> Page {
        Page { place, seen: 0, entries: Vec::new(), counts, deadline: Instant::now() + PAGE_TIMEOUT, is_late: false }
    }

    /// One more entry; breaks where nothing behind it is needed.
    fn take(&mut self, describe: impl FnOnce() -> Value) -> ControlFlow<()> {
        if self.seen >= self.place.skip && self.entries.len() < self.place.limit {
            self.entries.push(describe());
        }
        self.seen += 1;
        if !self.counts && self.seen > self.place.skip.saturating_add(self.place.limit) {
            return ControlFlow::Break(());
        }
        self.look_at_clock()
    }

    /// Breaks where its time is over.
    fn look_at_clock(&mut self) -> ControlFlow<()> {
        if Instant::now() < self.deadline {
            return ControlFlow::Continue(());
        }
        self.is_late = true;
        ControlFlow::Break(())
    }

    /// `count` is how many there are where that is known.
    fn finish(self, count: Option<u64>) -> Result<Listed, NoAnswer> {
        let has_more = self.seen > self.place.skip.saturating_add(self.entries.len());
        if self.is_late && self.entries.len() < self.place.limit {
            return Err(NoAnswer::Late);
        }
        let counted = self.counts && !self.is_late;
        Ok(Listed { entries: self.entries, count: count.or(counted.then_some(self.seen as u64)), has_more: has_more || self.is_late })
    }
}

/// A message as it is listed.
fn describe_message(message: &Message, qos: QoS) -> Value {
    json!({
        "msgid": message.id.to_string(),
        "topic": &*message.topic,
        "qos": qos as u8,
        "publish_at": time(message.received_at_ms),
        "from_clientid": &*message.from.client_id,
        "from_username": message.from.username,
    })
}

fn with_payload(mut described: Value, message: &Message) -> Value {
    described["payload"] = STANDARD.encode(&message.payload).into();
    described
}

fn describe_delayed(node: &str, key: DelayedKey, message: &Message) -> Value {
    let due_ms = key.due_ms();
    let mut described = describe_message(message, message.qos);
    described["msgid"] = key.text().into();
    described["node"] = node.into();
    described["delayed_interval"] = (due_ms.saturating_sub(message.received_at_ms) / 1000).into();
    described["delayed_remaining"] = (due_ms.saturating_sub(clock::now_ms()) / 1000).into();
    described["expected_at"] = time(due_ms);
    described
}

impl Observer {
    /// Subscriptions of all clients: those of sessions in memory first, then those in the store.
    ///
    /// # Errors
    /// A worker has not answered, or the store cannot be read in time.
    pub async fn all_subscriptions(&self, wanted: SubscriptionFilter, place: Place) -> Result<Listed, NoAnswer> {
        let node = Arc::clone(&self.shared.node);
        if let Some(client_id) = wanted.client_id.clone() {
            let home = self.worker_of(&client_id);
            let asked = client_id.clone();
            let held = self.ask(home, move |worker| worker.subscriptions_of(&asked)).await??.unwrap_or_default();
            let mut page = Page::new(place, true);
            for (filter, held) in held.into_iter().filter(|(filter, held)| wanted.wants(filter, *held)) {
                if page.take(|| describe_subscription(&node, &client_id, &filter, held)).is_break() {
                    break;
                }
            }
            return page.finish(None);
        }
        let (is_open, total) = (wanted.is_open(), self.totals().subscriptions());
        let mut page = Page::new(place, !is_open);
        for worker in 0..self.shared.mailboxes.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let asked = wanted.clone();
                let (found, behind) = self.ask(worker, move |worker| worker.find_subscriptions(&asked, from)).await?;
                for one in found {
                    if page.take(|| describe_subscription(&node, &one.client_id, &one.filter, one.held)).is_break() {
                        return page.finish(is_open.then_some(total));
                    }
                }
                next = behind;
            }
        }
        let page = self
            .beside(move |store| {
                let mut names: HashMap<QueueId, Option<Arc<crate::store::Queue>>> = HashMap::new();
                let mut looked = 0u64;
                store.each_subscription(|queue, filter, value| {
                    looked += 1;
                    if looked.is_multiple_of(1024) && page.look_at_clock().is_break() {
                        return ControlFlow::Break(());
                    }
                    let Some(held) = decode_subscription(value).filter(|held| wanted.wants(filter, *held)) else {
                        return ControlFlow::Continue(());
                    };
                    // They come sorted by their queues.
                    if !names.contains_key(&queue) {
                        names.clear();
                        names.insert(queue, store.queue(queue));
                    }
                    match &names[&queue] {
                        Some(queue) => page.take(|| describe_subscription(&node, queue.name(), filter, held)),
                        None => ControlFlow::Continue(()),
                    }
                })?;
                Ok(page)
            })
            .await?;
        page.finish(is_open.then_some(total))
    }

    /// Filters that somebody subscribes to; with `topic`, whether that is one.
    ///
    /// # Errors
    /// The place is further than [`TOPICS_SKIP_MAX`] behind.
    pub async fn topics(&self, filter: Option<String>, place: Place) -> Result<Listed, NoAnswer> {
        let node = Arc::clone(&self.shared.node);
        let shared = Arc::clone(&self.shared);
        let Place { skip, limit } = place;
        self.beside(move |_| {
            let describe = |filter: String| json!({ "topic": filter, "node": &*node });
            if let Some(filter) = filter {
                let entries: Vec<Value> = shared.router.has_filter(&filter).then(|| describe(filter)).into_iter().collect();
                return Ok(Listed { count: Some(entries.len() as u64), entries, has_more: false });
            }
            let mut found = shared.router.filters(skip, limit + 1);
            let has_more = found.len() > limit;
            found.truncate(limit);
            Ok(Listed { entries: found.into_iter().map(describe).collect(), count: Some(shared.router.topics()), has_more })
        })
        .await
    }

    /// Retained messages, by their topics, without payloads.
    ///
    /// # Errors
    /// The store cannot be read in time.
    pub async fn retained(&self, filter: Option<String>, place: Place) -> Result<Listed, NoAnswer> {
        let shared = Arc::clone(&self.shared);
        let all = filter.is_none().then(|| self.shared.retained.len());
        let page = self
            .beside(move |store| {
                let mut page = Page::new(place, filter.is_some());
                let mut from: Option<Box<str>> = None;
                loop {
                    let (messages, next) = match &filter {
                        Some(filter) => {
                            let part = shared.retained.page(filter, from.as_deref(), PART, PART_BYTES);
                            (part.messages, part.next)
                        }
                        None => {
                            let part = store.all_retained(from.as_deref(), PART, PART_BYTES, clock::now_ms())?;
                            (part.messages.into_iter().map(Arc::new).collect(), part.next)
                        }
                    };
                    for message in &messages {
                        if page.take(|| describe_message(message, message.qos)).is_break() {
                            return Ok(page);
                        }
                    }
                    from = next;
                    if from.is_none() || page.look_at_clock().is_break() {
                        return Ok(page);
                    }
                }
            })
            .await?;
        page.finish(all)
    }

    /// The retained message of a topic, with its payload.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn retained_message(&self, name: String) -> Result<Option<Value>, NoAnswer> {
        let shared = Arc::clone(&self.shared);
        self.beside(move |_| {
            if topic::has_wildcard(&name) {
                return Ok(None);
            }
            let page = shared.retained.page(&name, None, 1, usize::MAX);
            let found = page.messages.into_iter().find(|message| *message.topic == *name);
            Ok(found.map(|message| with_payload(describe_message(&message, message.qos), &message)))
        })
        .await
    }

    /// Takes the retained message of a topic away, durably. `false`: there is none.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn delete_retained(&self, name: String) -> Result<bool, NoAnswer> {
        self.beside(move |store| {
            if topic::has_wildcard(&name) || store.retained_size(&name)?.is_none() {
                return Ok(false);
            }
            let mut batch = Batch::default();
            batch.delete_retained(&name);
            store.commit_durably(&mut batch)?;
            Ok(true)
        })
        .await
    }

    /// Takes all retained messages away that clients have; how many there were. It ends early where `goes_on` says so.
    ///
    /// # Errors
    /// They cannot be read or written.
    pub async fn delete_all_retained(&self, goes_on: impl Fn() -> bool + Send + 'static) -> Result<u64, NoAnswer> {
        self.beside(move |store| {
            let (mut from, mut count): (Option<Box<str>>, u64) = (None, 0);
            loop {
                let page = store.all_retained(from.as_deref(), PART, PART_BYTES, clock::now_ms())?;
                let mut batch = Batch::default();
                page.messages.iter().for_each(|message| batch.delete_retained(&message.topic));
                if !batch.is_empty() {
                    store.commit_durably(&mut batch)?;
                }
                count += page.messages.len() as u64;
                from = page.next;
                if from.is_none() || !goes_on() {
                    return Ok(count);
                }
            }
        })
        .await
    }

    /// Messages that wait for their time, the next one first, without payloads.
    ///
    /// # Errors
    /// The store cannot be read in time.
    pub async fn delayed(&self, place: Place) -> Result<Listed, NoAnswer> {
        let node = Arc::clone(&self.shared.node);
        let count = self.shared.store.delayed_count() as u64;
        let page = self
            .beside(move |store| {
                let mut page = Page::new(place, false);
                store.each_delayed(|key, message| match message {
                    Some(message) => page.take(|| describe_delayed(&node, key, &message)),
                    None => ControlFlow::Continue(()),
                })?;
                Ok(page)
            })
            .await?;
        page.finish(Some(count))
    }

    /// One message that waits for its time, with its payload. `msgid` is what the list calls it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn delayed_message(&self, msgid: &str) -> Result<Option<Value>, NoAnswer> {
        let Some(key) = DelayedKey::parse(msgid) else { return Ok(None) };
        let node = Arc::clone(&self.shared.node);
        self.beside(move |store| Ok(store.delayed(key)?.map(|message| with_payload(describe_delayed(&node, key, &message), &message))))
            .await
    }

    /// Takes back a message that waits for its time. `false`: it does not wait.
    ///
    /// # Errors
    /// A worker has not answered, or the store has not taken it.
    pub async fn cancel_delayed(&self, msgid: &str) -> Result<bool, NoAnswer> {
        let Some(key) = DelayedKey::parse(msgid) else { return Ok(false) };
        for worker in 0..self.shared.mailboxes.len() {
            if !self.ask(worker, move |worker| worker.cancel_delayed(key)).await? {
                continue;
            }
            // The next turn knows whether the commit of that one has succeeded.
            if self.ask(worker, move |worker| worker.has_delayed(key)).await? {
                return Err(NoAnswer::Store(Error::Write("the message waits on".into())));
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// What waits for a client and is not on its way to it; `None`: there is no such client.
    ///
    /// # Errors
    /// Its worker has not answered, or the store cannot be read in time.
    pub async fn waiting_messages(&self, client_id: &str, place: Place) -> Result<Option<Listed>, NoAnswer> {
        let asked = client_id.to_owned();
        let Place { skip, limit } = place;
        let found = self.ask(self.worker_of(client_id), move |worker| worker.waiting_for(&asked, skip, limit + 1)).await??;
        let (queue, from, gone) = match found {
            None => return Ok(None),
            Some(Waiting::Memory(messages)) => {
                return Ok(Some(payloads(limit, messages.into_iter().map(|(message, qos)| (message, qos, None)))));
            }
            Some(Waiting::Stored { queue, from, gone }) => (queue, from, gone),
        };
        self.beside(move |store| {
            let deadline = Instant::now() + PAGE_TIMEOUT;
            let mut cache = ChunkCache::default();
            let (mut messages, mut bytes, mut passed) = (Vec::new(), 0, 0);
            for sequence in queue.sequences(from) {
                if messages.len() > limit || bytes > PAYLOADS_MAX || Instant::now() > deadline {
                    break;
                }
                let at = match queue.look(sequence) {
                    Slot::Waits(position) if !gone.contains(&sequence) => position,
                    _ => continue,
                };
                passed += 1;
                if passed <= skip {
                    continue;
                }
                if let Some(stored) = store.message(queue.id(), at, &mut cache)? {
                    bytes += stored.message.payload.len();
                    let qos = effective_qos(stored.message.qos, stored.flags);
                    messages.push((Arc::new(stored.message), qos, None));
                }
            }
            Ok(Some(payloads(limit, messages.into_iter())))
        })
        .await
    }

    /// What is on its way to a client and is not acknowledged; `None`: there is no such client.
    ///
    /// # Errors
    /// Its worker has not answered, or the store cannot be read.
    pub async fn inflight_messages(&self, client_id: &str, place: Place) -> Result<Option<Listed>, NoAnswer> {
        let asked = client_id.to_owned();
        let Place { skip, limit } = place;
        let found = self.ask(self.worker_of(client_id), move |worker| worker.on_the_way_to(&asked)).await??;
        Ok(found.map(|sent| {
            let count = sent.len() as u64;
            let part = sent.into_iter().skip(skip).take(limit + 1).map(|(message, qos, at_ms)| (message, qos, Some(at_ms)));
            Listed { count: Some(count), ..payloads(limit, part) }
        }))
    }

    /// Does something with the store beside the runtime's own threads.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let store = Arc::clone(&self.shared.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(NoAnswer::from),
            Err(_) => Err(NoAnswer::Late),
        }
    }
}

/// A page of messages with their payloads, within the bound of an answer; `messages` has one more than the page where there are more.
fn payloads(limit: usize, messages: impl Iterator<Item = (Arc<Message>, QoS, Option<u64>)>) -> Listed {
    let (mut listed, mut bytes) = (Listed::default(), 0);
    for (message, qos, sent_at_ms) in messages {
        if listed.entries.len() == limit || bytes > PAYLOADS_MAX {
            listed.has_more = true;
            break;
        }
        bytes += message.payload.len();
        let mut described = with_payload(describe_message(&message, qos), &message);
        if let Some(sent_at_ms) = sent_at_ms {
            described["inflight_insert_at"] = time(sent_at_ms);
        }
        listed.entries.push(described);
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(place: Place, counts: bool, entries: u64) -> (Listed, u64) {
        let (mut page, mut asked) = (Page::new(place, counts), 0);
        for entry in 0..entries {
            asked += 1;
            if page.take(|| entry.into()).is_break() {
                break;
            }
        }
        (page.finish(None).expect("in time"), asked)
    }

    #[test]
    fn a_page_takes_no_more_than_it_needs_and_counts_where_it_is_to() {
        let place = |skip, limit| Place { skip, limit };
        for (place, counts, entries, expect, more, count, asked) in [
            (place(0, 2), false, 10, vec![0, 1], true, None, 3),
            (place(2, 2), true, 10, vec![2, 3], true, Some(10), 10),
            (place(8, 2), false, 10, vec![8, 9], false, None, 10),
            (place(9, 2), true, 10, vec![9], false, Some(10), 10),
            (place(20, 2), true, 10, vec![], false, Some(10), 10),
            (place(0, 2), false, 0, vec![], false, None, 0),
            (place(usize::MAX, usize::MAX), false, 2, vec![], false, None, 2),
        ] {
            let (listed, looked) = page(place, counts, entries);
            assert_eq!(
                (listed.entries, listed.has_more, listed.count, looked),
                (expect.into_iter().map(Value::from).collect(), more, count, asked),
                "{place:?}"
            );
        }
    }

    #[test]
    fn subscriptions_are_chosen_by_topic_group_and_qos() {
        let held = |qos| Held { options: SubscriptionOptions { qos, ..SubscriptionOptions::default() }, identifier: 0 };
        let wanted = SubscriptionFilter::default();
        let some = |text: &str| Some(text.to_owned());
        for (wanted, filter, expect) in [
            (wanted.clone(), "a/#", true),
            (SubscriptionFilter { topic: some("a/#"), ..wanted.clone() }, "a/#", true),
            (SubscriptionFilter { topic: some("a/b"), ..wanted.clone() }, "a/#", false),
            (SubscriptionFilter { match_topic: some("a/b"), ..wanted.clone() }, "$share/g/a/#", true),
            (SubscriptionFilter { match_topic: some("b"), ..wanted.clone() }, "a/#", false),
            (SubscriptionFilter { share_group: some("g"), ..wanted.clone() }, "$share/g/a", true),
            (SubscriptionFilter { share_group: some("g"), ..wanted.clone() }, "$share/h/a", false),
            (SubscriptionFilter { share_group: some("g"), ..wanted.clone() }, "a", false),
            (SubscriptionFilter { qos: Some(2), ..wanted.clone() }, "a", false),
        ] {
            assert_eq!(wanted.wants(filter, held(QoS::AtLeastOnce)), expect, "{wanted:?} {filter}");
        }
    }
}
