-- What is kept for clients. The names are those of EMQX's backends; what is added to them is said beside it. Times are seconds since the Unix epoch.
CREATE TABLE IF NOT EXISTS mqtt_client (
    id         bigserial PRIMARY KEY,
    clientid   text NOT NULL UNIQUE,
    state      smallint NOT NULL,     -- 1: connected
    node       text NOT NULL,
    online_at  bigint,
    offline_at bigint,
    created    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS mqtt_sub (
    id       bigserial PRIMARY KEY,
    clientid text NOT NULL,
    topic    text NOT NULL,
    qos      smallint NOT NULL DEFAULT 1,
    created  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (clientid, topic)
);
CREATE TABLE IF NOT EXISTS mqtt_msg (
    id         bigserial PRIMARY KEY,
    -- 32 hexadecimal digits in upper case.
    msgid      text NOT NULL UNIQUE DEFAULT upper(replace(gen_random_uuid()::text, '-', '')),
    topic      text NOT NULL,
    sender     text NOT NULL DEFAULT '',
    node       text NOT NULL DEFAULT '',
    qos        smallint NOT NULL DEFAULT 1,
    retain     boolean NOT NULL DEFAULT false,
    payload    bytea NOT NULL,
    arrived    bigint NOT NULL DEFAULT extract(epoch FROM now())::bigint,
    expires_at bigint                 -- added: the end of the message expiry interval
);
CREATE INDEX IF NOT EXISTS mqtt_msg_topic ON mqtt_msg (topic text_pattern_ops, id);
CREATE INDEX IF NOT EXISTS mqtt_msg_arrived ON mqtt_msg (arrived);
CREATE TABLE IF NOT EXISTS mqtt_retain (
    id         bigserial PRIMARY KEY,
    topic      text NOT NULL UNIQUE,
    msgid      text NOT NULL DEFAULT upper(replace(gen_random_uuid()::text, '-', '')),
    sender     text NOT NULL DEFAULT '',
    node       text NOT NULL DEFAULT '',
    qos        smallint NOT NULL DEFAULT 1,
    payload    bytea NOT NULL,
    arrived    bigint NOT NULL DEFAULT extract(epoch FROM now())::bigint,
    expires_at bigint                 -- added
);
-- One row for each message that a client has acknowledged, and not a position: a position would pass over messages that were overtaken.
CREATE TABLE IF NOT EXISTS mqtt_acked (
    clientid text NOT NULL,
    msgid    text NOT NULL,
    topic    text NOT NULL,
    created  bigint NOT NULL,
    PRIMARY KEY (clientid, msgid)
);
CREATE INDEX IF NOT EXISTS mqtt_acked_created ON mqtt_acked (created);
