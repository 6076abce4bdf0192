//! What is asked of a database and written into it, for each kind of connector: names and tables are those of EMQX's backends.

use std::collections::BTreeMap;

use hookline_schemas::config::{Acks, Persistence, SubscriptionUse};
use hookline_schemas::sql;
use serde_json::{Map, Value as Json, json};

/// Rows of one answer.
pub(super) const PAGE: usize = 500;

/// What is written, by the case of a record.
pub(super) mod case {
    pub(crate) const CONNECTED: &str = "connected";
    pub(crate) const DISCONNECTED: &str = "disconnected";
    pub(crate) const SUBSCRIBED: &str = "subscribed";
    pub(crate) const UNSUBSCRIBED: &str = "unsubscribed";
    pub(crate) const MESSAGE: &str = "message";
    pub(crate) const ACK: &str = "ack";
    pub(crate) const PURGE: &str = "purge";
    pub(crate) const PURGE_ACKS: &str = "purge_acks";
    pub(crate) const RETAINED: &str = "retained";
    pub(crate) const UNRETAINED: &str = "unretained";
}

/// What is asked.
pub(super) mod question {
    /// The subscriptions of a client.
    pub(crate) const SUBSCRIPTIONS: &str = "get_subscriptions";
    /// Messages of a topic.
    pub(crate) const MESSAGES: &str = "get_messages";
    /// Messages of the topics that a filter with wildcards matches.
    pub(crate) const MATCHING: &str = "get_matching_messages";
    /// Which of some messages a client has acknowledged, where the questions before do not know it.
    pub(crate) const ACKED: &str = "get_acked";
    /// The retained message of a topic.
    pub(crate) const RETAINED: &str = "get_retained";
    /// The retained messages of the topics that a filter with wildcards matches.
    pub(crate) const MATCHING_RETAINED: &str = "get_matching_retained";
}

type Parameters = Map<String, Json>;

/// The parameters of everything that a persistence may write or ask, by name.
#[derive(Debug, Default)]
pub(super) struct Statements {
    pub(super) written: Vec<(&'static str, Parameters)>,
    pub(super) asked: BTreeMap<&'static str, Parameters>,
}

impl Statements {
    /// Those that the settings need; `None` where the kind of connector has none.
    pub(super) fn new(kind: &str, connector: &Parameters, settings: &Persistence) -> Option<Statements> {
        let dialect = match kind {
            "postgres" => postgres(settings),
            "mysql" => mysql(settings),
            "mongodb" => mongodb(settings),
            "redis" => redis(connector, settings),
            _ => return None,
        };
        let mut statements = Statements::default();
        let mut write = |names: &[&'static str]| {
            for name in names {
                statements.written.push((name, own(settings, name).unwrap_or_else(|| object(dialect(name)))));
            }
        };
        if settings.clients {
            write(&[case::CONNECTED, case::DISCONNECTED]);
        }
        if settings.subscriptions == SubscriptionUse::Keep {
            write(&[case::SUBSCRIBED, case::UNSUBSCRIBED]);
        }
        if !settings.messages.is_empty() {
            write(&[case::MESSAGE, case::ACK]);
            // Redis forgets by itself.
            if settings.retention_secs > 0 && kind != "redis" {
                write(&[case::PURGE]);
                write(if settings.acks == Acks::Note { &[case::PURGE_ACKS] } else { &[] });
            }
        }
        if !settings.retained.is_empty() {
            write(&[case::RETAINED, case::UNRETAINED]);
        }
        let mut ask = |names: &[&'static str]| {
            for name in names {
                let parameters = own(settings, name).or_else(|| Some(dialect(name)).filter(Json::is_object).map(object));
                statements.asked.extend(parameters.map(|parameters| (*name, parameters)));
            }
        };
        if settings.subscriptions != SubscriptionUse::None {
            ask(&[question::SUBSCRIPTIONS]);
        }
        if !settings.messages.is_empty() {
            ask(&[question::MESSAGES, question::MATCHING, question::ACKED]);
        }
        if !settings.retained.is_empty() {
            ask(&[question::RETAINED, question::MATCHING_RETAINED]);
        }
        Some(statements)
    }

    /// The names of all there may be.
    pub(super) fn names() -> [&'static str; 16] {
        [
            case::CONNECTED,
            case::DISCONNECTED,
            case::SUBSCRIBED,
            case::UNSUBSCRIBED,
            case::MESSAGE,
            case::ACK,
            case::PURGE,
            case::PURGE_ACKS,
            case::RETAINED,
            case::UNRETAINED,
            question::SUBSCRIPTIONS,
            question::MESSAGES,
            question::MATCHING,
            question::ACKED,
            question::RETAINED,
            question::MATCHING_RETAINED,
        ]
    }
}

fn own(settings: &Persistence, name: &str) -> Option<Parameters> {
    settings.statements.get(name).cloned()
}

fn object(json: Json) -> Parameters {
    match json {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// The parameters of a statement, by its name.
type Dialect = Box<dyn Fn(&str) -> Json>;

/// The columns of a message that is asked for; the last is the place behind which the next page begins.
const MESSAGE_COLUMNS: &str = "msgid, topic, sender, qos, payload, arrived, expires_at";

fn messages(topic: &str) -> Json {
    json!({ "query": format!(
        "SELECT {MESSAGE_COLUMNS}, id AS place FROM mqtt_msg m WHERE {topic} AND id > ${{after}} AND arrived >= ${{since}} \
         AND NOT EXISTS (SELECT 1 FROM mqtt_acked a WHERE a.clientid = ${{clientid}} AND a.msgid = m.msgid) ORDER BY id LIMIT {PAGE}"
    )})
}

fn retained(topic: &str) -> Json {
    json!({ "query": format!(
        "SELECT {MESSAGE_COLUMNS}, topic AS place FROM mqtt_retain WHERE {topic} AND topic > ${{after}} ORDER BY topic LIMIT {PAGE}"
    )})
}

/// What SQL has in common: deletions and questions.
fn common_sql(name: &str, acks: Acks) -> Option<Json> {
    let query = |text: &str| Some(json!({ "query": text }));
    let sql = |text: &str| Some(json!({ "sql": text }));
    match name {
        case::UNSUBSCRIBED => sql("DELETE FROM mqtt_sub WHERE clientid = ${clientid} AND topic = ${topic}"),
        case::ACK if acks == Acks::Delete => sql("DELETE FROM mqtt_msg WHERE msgid = ${msgid}"),
        case::PURGE => sql("DELETE FROM mqtt_msg WHERE arrived < ${before}"),
        case::PURGE_ACKS => sql("DELETE FROM mqtt_acked WHERE created < ${before}"),
        case::UNRETAINED => sql("DELETE FROM mqtt_retain WHERE topic = ${topic}"),
        question::SUBSCRIPTIONS => query("SELECT topic, qos FROM mqtt_sub WHERE clientid = ${clientid}"),
        question::MESSAGES => Some(messages("topic = ${topic}")),
        question::MATCHING => Some(messages("topic LIKE ${like}")),
        question::RETAINED => Some(retained("topic = ${topic}")),
        question::MATCHING_RETAINED => Some(retained("topic LIKE ${like}")),
        _ => None,
    }
}

/// An INSERT of columns, and what to do where the row is there already.
fn insert(table: &str, columns: &str, on_conflict: &str, setup: &str) -> Json {
    let values: Vec<String> = columns.split(", ").map(|column| format!("${{{column}}}")).collect();
    json!({ "sql": format!("INSERT INTO {table} ({columns}) VALUES ({}) {on_conflict}", values.join(", ")), "setup": setup })
}

const CONNECTED: &str = "clientid, state, node, online_at";
const DISCONNECTED: &str = "clientid, state, node, offline_at";
const SUBSCRIBED: &str = "clientid, topic, qos";
const MESSAGE: &str = "msgid, topic, sender, node, qos, retain, payload, arrived, expires_at";
const ACK: &str = "clientid, msgid, topic, created";
const RETAINED: &str = "topic, msgid, sender, node, qos, payload, arrived, expires_at";

/// Takes over the columns of the new row.
fn takes_over(columns: &[&str], new: impl Fn(&str) -> String) -> String {
    columns.iter().map(|column| format!("{column} = {}", new(column))).collect::<Vec<_>>().join(", ")
}

fn postgres(settings: &Persistence) -> Dialect {
    let acks = settings.acks;
    Box::new(move |name| {
        let setup = sql::PERSISTENCE_POSTGRES;
        let upsert = |table: &str, columns: &str, key: &str, changed: &[&str]| {
            let changed = takes_over(changed, |column| format!("EXCLUDED.{column}"));
            let on_conflict = if changed.is_empty() { "DO NOTHING".to_owned() } else { format!("({key}) DO UPDATE SET {changed}") };
            insert(table, columns, &format!("ON CONFLICT {on_conflict}"), setup)
        };
        let with_setup = |mut json: Json| {
            if json.get("sql").is_some() {
                json["setup"] = json!(setup);
            }
            json
        };
        match name {
            case::CONNECTED => upsert("mqtt_client", CONNECTED, "clientid", &["state", "node", "online_at"]),
            case::DISCONNECTED => upsert("mqtt_client", DISCONNECTED, "clientid", &["state", "node", "offline_at"]),
            case::SUBSCRIBED => upsert("mqtt_sub", SUBSCRIBED, "clientid, topic", &["qos"]),
            case::MESSAGE => upsert("mqtt_msg", MESSAGE, "msgid", &[]),
            case::RETAINED => {
                upsert("mqtt_retain", RETAINED, "topic", &["msgid", "sender", "node", "qos", "payload", "arrived", "expires_at"])
            }
            case::ACK if acks == Acks::Note => upsert("mqtt_acked", ACK, "clientid, msgid", &[]),
            _ => common_sql(name, acks).map_or(Json::Null, with_setup),
        }
    })
}

fn mysql(settings: &Persistence) -> Dialect {
    let acks = settings.acks;
    Box::new(move |name| {
        let setup = sql::PERSISTENCE_MYSQL;
        let upsert = |table: &str, columns: &str, changed: &[&str]| {
            let changed = takes_over(changed, |column| format!("VALUES({column})"));
            insert(table, columns, &format!("ON DUPLICATE KEY UPDATE {changed}"), setup)
        };
        let with_setup = |mut json: Json| {
            if json.get("sql").is_some() {
                json["setup"] = json!(setup);
            }
            json
        };
        match name {
            case::CONNECTED => upsert("mqtt_client", CONNECTED, &["state", "node", "online_at"]),
            case::DISCONNECTED => upsert("mqtt_client", DISCONNECTED, &["state", "node", "offline_at"]),
            case::SUBSCRIBED => upsert("mqtt_sub", SUBSCRIBED, &["qos"]),
            case::MESSAGE => upsert("mqtt_msg", MESSAGE, &["msgid"]),
            case::RETAINED => upsert("mqtt_retain", RETAINED, &["msgid", "sender", "node", "qos", "payload", "arrived", "expires_at"]),
            case::ACK if acks == Acks::Note => upsert("mqtt_acked", ACK, &["created"]),
            _ => common_sql(name, acks).map_or(Json::Null, with_setup),
        }
    })
}

fn mongodb(settings: &Persistence) -> Dialect {
    let acks = settings.acks;
    let fields = |columns: &str| {
        let pairs = columns.split(", ").map(|column| format!(r#""{column}": "${{{column}}}""#));
        pairs.collect::<Vec<_>>().join(", ")
    };
    Box::new(move |name| {
        let upsert = |collection: &str, filter: &str, document: String| json!({ "collection": collection, "operation": "upsert", "bytes": "text", "filter": filter, "document": format!("{{{document}}}") });
        let ensure = |collection: &str, id: &str, fields: &str| {
            let document = format!(r#"{{"_id": "{id}", {fields}}}"#);
            json!({ "collection": collection, "operation": "ensure", "bytes": "text", "document": document })
        };
        let set = |filter: &str, columns: &str| {
            let update = format!(r#"{{"$set": {{{}}}}}"#, fields(columns));
            json!({ "collection": "mqtt_client", "operation": "upsert", "filter": filter, "update": update })
        };
        let delete = |collection: &str, filter: &str| json!({ "collection": collection, "operation": "delete", "filter": filter });
        let find = |collection: &str, filter: &str, sort: Option<&str>, limit: usize| json!({ "collection": collection, "filter": filter, "sort": sort, "limit": limit });
        let by_client = r#"{"clientid": "${clientid}"}"#;
        let by_subscription = r#"{"clientid": "${clientid}", "topic": "${topic}"}"#;
        match name {
            case::CONNECTED => set(by_client, CONNECTED),
            case::DISCONNECTED => set(by_client, DISCONNECTED),
            case::SUBSCRIBED => upsert("mqtt_sub", by_subscription, fields(SUBSCRIBED)),
            case::UNSUBSCRIBED => delete("mqtt_sub", by_subscription),
            case::MESSAGE => ensure("mqtt_msg", "${msgid}", &fields(MESSAGE)),
            case::ACK if acks == Acks::Delete => delete("mqtt_msg", r#"{"_id": "${msgid}"}"#),
            case::ACK => ensure("mqtt_acked", "${clientid}/${msgid}", &fields(ACK)),
            case::PURGE => delete("mqtt_msg", r#"{"arrived": {"$lt": "${before}"}}"#),
            case::PURGE_ACKS => delete("mqtt_acked", r#"{"created": {"$lt": "${before}"}}"#),
            case::RETAINED => upsert("mqtt_retain", r#"{"_id": "${topic}"}"#, format!(r#""_id": "${{topic}}", {}"#, fields(RETAINED))),
            case::UNRETAINED => delete("mqtt_retain", r#"{"topic": "${topic}"}"#),
            question::SUBSCRIPTIONS => find("mqtt_sub", by_client, None, 1000),
            question::MESSAGES => {
                let filter = r#"{"topic": "${topic}", "_id": {"$gt": "${after}"}, "arrived": {"$gte": "${since}"}}"#;
                find("mqtt_msg", filter, Some("_id"), PAGE)
            }
            question::MATCHING => {
                let filter = r#"{"topic": {"$regex": "${regex}"}, "_id": {"$gt": "${after}"}, "arrived": {"$gte": "${since}"}}"#;
                find("mqtt_msg", filter, Some("_id"), PAGE)
            }
            question::ACKED if acks == Acks::Note => {
                find("mqtt_acked", r#"{"clientid": "${clientid}", "msgid": {"$in": "${msgids}"}}"#, None, PAGE)
            }
            question::RETAINED => find("mqtt_retain", r#"{"topic": "${topic}", "_id": {"$gt": "${after}"}}"#, Some("_id"), PAGE),
            question::MATCHING_RETAINED => {
                find("mqtt_retain", r#"{"topic": {"$regex": "${regex}"}, "_id": {"$gt": "${after}"}}"#, Some("_id"), PAGE)
            }
            _ => Json::Null,
        }
    })
}

/// Reads one sorted set of messages from a place on, into `rows`.
const REDIS_READ: &str = r"
local rows = {}
local function read(topic, score, member, prefix, since, acked)
    local from, offset = score or since, 0
    while #rows < 500 do
        local ids = redis.call('ZRANGEBYSCORE', prefix .. ':msg:' .. topic, from, '+inf', 'WITHSCORES', 'LIMIT', offset, 500)
        if #ids == 0 then return end
        offset = offset + 500
        for i = 1, #ids, 2 do
            local id, at = ids[i], ids[i + 1]
            local before = score and at == score and id <= member
            if not before and not redis.call('ZSCORE', acked, id) then
                local m = redis.call('HMGET', prefix .. ':msg:' .. id, 'from', 'qos', 'payload', 'ts', 'expires_at')
                if m[3] then
                    rows[#rows + 1] = {'msgid', id, 'topic', topic, 'sender', m[1] or '', 'qos', m[2] or '1', 'payload', m[3],
                        'arrived', m[4] or at, 'expires_at', m[5] or '', 'place', at .. ' ' .. id .. ' ' .. topic}
                end
            end
        end
    end
end
local score, member, at_topic = string.match(ARGV[2], '^(%S+) (%S+) (.*)$')
";

/// Goes through the topics that a filter matches, from a place on.
const REDIS_TOPICS: &str = r"
local function each(index, start, first, patterns, full, take)
    local from, offset = '[' .. start, 0
    if start == '' then from = '-' end
    while not full() do
        local topics = redis.call('ZRANGEBYLEX', index, from, '+', 'LIMIT', offset, 200)
        if #topics == 0 then return end
        offset = offset + 200
        for _, topic in ipairs(topics) do
            if string.sub(topic, 1, #first) ~= first and topic > first then return end
            if full() then return end
            for _, pattern in ipairs(patterns) do
                if string.find(topic, pattern) then take(topic) break end
            end
        end
    end
end
";

fn redis(connector: &Parameters, settings: &Persistence) -> Dialect {
    // In a cluster all of it is in one slot, so that a message and its place in its topic change together.
    let prefix = if connector.get("mode").and_then(Json::as_str) == Some("cluster") { "{mqtt}" } else { "mqtt" };
    let (acks, retention) = (settings.acks, settings.retention_secs);
    Box::new(move |name| {
        let eval = |script: &str, keys: &[&str], arguments: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| format!("{prefix}:{key}")).collect();
            let mut words = vec!["EVAL".to_owned(), script.to_owned(), keys.len().to_string()];
            words.extend(keys);
            words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
            json!({ "command": words })
        };
        let command = |words: &[&str]| {
            let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            words[1] = format!("{prefix}:{}", words[1]);
            json!({ "command": words })
        };
        let retention = retention.to_string();
        match name {
            case::CONNECTED => eval(
                "redis.call('HSET', KEYS[1], 'state', 1, 'online_at', ARGV[2], 'node', ARGV[3]) \
                 return redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])",
                &["client:${clientid}", "node:${node}"],
                &["${clientid}", "${online_at}", "${node}"],
            ),
            case::DISCONNECTED => eval(
                "redis.call('HSET', KEYS[1], 'state', 0, 'offline_at', ARGV[2]) return redis.call('HDEL', KEYS[2], ARGV[1])",
                &["client:${clientid}", "node:${node}"],
                &["${clientid}", "${offline_at}"],
            ),
            case::SUBSCRIBED => command(&["HSET", "sub:${clientid}", "${topic}", "${qos}"]),
            case::UNSUBSCRIBED => command(&["HDEL", "sub:${clientid}", "${topic}"]),
            case::MESSAGE => eval(
                "redis.call('HSET', KEYS[1], 'id', ARGV[1], 'topic', ARGV[2], 'from', ARGV[3], 'qos', ARGV[4], 'retain', ARGV[5], \
                 'payload', ARGV[6], 'ts', ARGV[7], 'expires_at', ARGV[8]) redis.call('ZADD', KEYS[2], ARGV[7], ARGV[1]) \
                 redis.call('ZADD', KEYS[3], 0, ARGV[2]) \
                 if ARGV[9] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[9]) redis.call('EXPIRE', KEYS[2], ARGV[9]) \
                 redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', tonumber(ARGV[7]) - tonumber(ARGV[9])) end return 1",
                &["msg:${msgid}", "msg:${topic}", "topics"],
                &["${msgid}", "${topic}", "${sender}", "${qos}", "${retain}", "${payload}", "${arrived}", "${expires_at}", &retention],
            ),
            case::ACK if acks == Acks::Delete => eval(
                "redis.call('DEL', KEYS[1]) redis.call('ZREM', KEYS[2], ARGV[1]) \
                 if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[3], ARGV[2]) end return 1",
                &["msg:${msgid}", "msg:${topic}", "topics"],
                &["${msgid}", "${topic}"],
            ),
            case::ACK => eval(
                "redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) \
                 redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', tonumber(ARGV[2]) - tonumber(ARGV[3])) end return 1",
                &["acked:${clientid}"],
                &["${msgid}", "${created}", &retention],
            ),
            case::RETAINED => eval(
                "redis.call('HSET', KEYS[1], 'id', ARGV[1], 'topic', ARGV[2], 'from', ARGV[3], 'qos', ARGV[4], 'payload', ARGV[5], \
                 'ts', ARGV[6], 'expires_at', ARGV[7]) return redis.call('ZADD', KEYS[2], 0, ARGV[2])",
                &["retain:${topic}", "retained"],
                &["${msgid}", "${topic}", "${sender}", "${qos}", "${payload}", "${arrived}", "${expires_at}"],
            ),
            case::UNRETAINED => eval(
                "redis.call('DEL', KEYS[1]) return redis.call('ZREM', KEYS[2], ARGV[1])",
                &["retain:${topic}", "retained"],
                &["${topic}"],
            ),
            question::SUBSCRIPTIONS => eval(
                "local rows, all = {}, redis.call('HGETALL', KEYS[1]) \
                 for i = 1, #all, 2 do rows[#rows + 1] = {'topic', all[i], 'qos', all[i + 1]} end return rows",
                &["sub:${clientid}"],
                &[],
            ),
            question::MESSAGES => eval(
                &format!("{REDIS_READ} read(ARGV[4], score, member, ARGV[1], ARGV[3], KEYS[2]) return rows"),
                &["msg:${topic}", "acked:${clientid}"],
                &[prefix, "${after}", "${since}", "${topic}"],
            ),
            question::MATCHING => eval(
                &format!(
                    "{REDIS_READ} {REDIS_TOPICS} \
                     each(KEYS[2], at_topic or ARGV[4], ARGV[4], {{ARGV[5], ARGV[6]}}, function() return #rows >= 500 end, function(topic) \
                     if topic == at_topic then read(topic, score, member, ARGV[1], ARGV[3], KEYS[1]) \
                     else read(topic, nil, nil, ARGV[1], ARGV[3], KEYS[1]) end end) return rows"
                ),
                &["acked:${clientid}", "topics"],
                &[prefix, "${after}", "${since}", "${first}", "${pattern}", "${pattern_below}"],
            ),
            question::RETAINED => eval(
                "if ARGV[1] ~= '' then return {} end local m = redis.call('HMGET', KEYS[1], 'id', 'from', 'qos', 'payload', 'ts', 'expires_at') \
                 if not m[4] then return {} end return {{'msgid', m[1] or '', 'topic', ARGV[2], 'sender', m[2] or '', 'qos', m[3] or '1', \
                 'payload', m[4], 'arrived', m[5] or '0', 'expires_at', m[6] or '', 'place', ARGV[2]}}",
                &["retain:${topic}"],
                &["${after}", "${topic}"],
            ),
            question::MATCHING_RETAINED => eval(
                &format!(
                    "local rows = {{}} {REDIS_TOPICS} local after = ARGV[2] if after == '' then after = nil end \
                     each(KEYS[1], after or ARGV[3], ARGV[3], {{ARGV[4], ARGV[5]}}, function() return #rows >= 500 end, function(topic) \
                     if topic == after then return end \
                     local m = redis.call('HMGET', ARGV[1] .. ':retain:' .. topic, 'id', 'from', 'qos', 'payload', 'ts', 'expires_at') \
                     if m[4] then rows[#rows + 1] = {{'msgid', m[1] or '', 'topic', topic, 'sender', m[2] or '', 'qos', m[3] or '1', \
                     'payload', m[4], 'arrived', m[5] or '0', 'expires_at', m[6] or '', 'place', topic}} end end) return rows"
                ),
                &["retained"],
                &[prefix, "${after}", "${first}", "${pattern}", "${pattern_below}"],
            ),
            _ => Json::Null,
        }
    })
}

/// What the filters of the databases need to know of an MQTT filter.
pub(super) struct Patterns {
    /// What topics begin with.
    pub(super) first: String,
    /// For LIKE: matches at least what the filter matches.
    pub(super) like: String,
    pub(super) regex: String,
    /// Patterns of Lua: one for the filter, one for what is below it.
    pub(super) lua: [String; 2],
}

impl Patterns {
    pub(super) fn new(filter: &str) -> Patterns {
        let first = filter.split(['+', '#']).next().unwrap_or_default();
        // "a/#" also matches "a".
        let (base, below) = match filter.strip_suffix("/#") {
            Some(base) => (base, true),
            None => (filter, false),
        };
        let first = if below && base.len() < first.len() { base } else { first };
        let escaped = |special: &str, escape: char, level: &str| {
            let mut text = String::new();
            for c in base.chars() {
                match c {
                    '+' => text.push_str(level),
                    c if special.contains(c) => text.extend([escape, c]),
                    c => text.push(c),
                }
            }
            text
        };
        let like = if base == "#" { "%".to_owned() } else { escaped(r"%_\", '\\', "%") + if below { "%" } else { "" } };
        let regex = match (base, below) {
            ("#", _) => String::new(),
            (_, true) => format!("^{}(/|$)", escaped(r".^$*?()[]{}|\", '\\', "[^/]*")),
            _ => format!("^{}$", escaped(r".^$*?()[]{}|\", '\\', "[^/]*")),
        };
        let plain = escaped("^$()%.[]*-?", '%', "[^/]*");
        let lua = match (base, below) {
            ("#", _) => ["^[^$]".to_owned(), "^$".to_owned()],
            (_, true) => [format!("^{plain}$"), format!("^{plain}/")],
            _ => [format!("^{plain}$"), format!("^{plain}$")],
        };
        Patterns { first: first.to_owned(), like, regex, lua }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_become_patterns() {
        let pattern = |filter| {
            let Patterns { first, like, regex, lua } = Patterns::new(filter);
            (first, like, regex, lua[0].clone(), lua[1].clone())
        };
        let expect = |a: &str, b: &str, c: &str, d: &str, e: &str| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned(), e.to_owned());
        assert_eq!(pattern("a/+/b_"), expect("a/", r"a/%/b\_", "^a/[^/]*/b_$", "^a/[^/]*/b_$", "^a/[^/]*/b_$"));
        assert_eq!(pattern("a.b/#"), expect("a.b", "a.b%", r"^a\.b(/|$)", "^a%.b$", "^a%.b/"));
        assert_eq!(pattern("#"), expect("", "%", "", "^[^$]", "^$"));
        assert_eq!(pattern("+/x/#"), expect("", "%/x%", "^[^/]*/x(/|$)", "^[^/]*/x$", "^[^/]*/x/"));
    }

    #[test]
    fn every_statement_that_is_needed_is_there_for_each_kind() {
        for acks in [Acks::Note, Acks::Delete] {
            let settings = Persistence {
                connector: "c".into(),
                clients: true,
                subscriptions: SubscriptionUse::Keep,
                messages: vec!["#".into()],
                qos0: false,
                acks,
                retained: vec!["#".into()],
                retention_secs: 1,
                on_failure: hookline_schemas::config::OnFailure::Refuse,
                ack: hookline_schemas::ports::AckMode::Durable,
                queue: hookline_schemas::config::QueueBounds::default(),
                delivery: hookline_schemas::config::Delivery::default(),
                statements: BTreeMap::new(),
            };
            for kind in ["postgres", "mysql", "mongodb", "redis"] {
                let statements = Statements::new(kind, &Map::new(), &settings).expect(kind);
                assert!(statements.written.iter().all(|(name, parameters)| !parameters.is_empty() && Statements::names().contains(name)));
                let asked = statements.asked.len();
                assert_eq!(asked, if kind == "mongodb" && acks == Acks::Note { 6 } else { 5 }, "{kind}");
            }
            assert!(Statements::new("kafka", &Map::new(), &settings).is_none());
        }
    }
}
