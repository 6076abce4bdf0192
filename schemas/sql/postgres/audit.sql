-- Every client and message event, one row each. hookline_id makes a second delivery of one record harmless.
CREATE TABLE IF NOT EXISTS hookline_events (
    hookline_id   text PRIMARY KEY,
    at            timestamptz NOT NULL,
    event         text NOT NULL,      -- hook point, such as client.connected
    clientid      text,
    username      text,
    peername      text,
    topic         text,
    qos           smallint,
    payload       bytea,
    message_id    text,
    from_clientid text,               -- the publisher, where the event is a subscriber's
    reason        text,
    details       jsonb NOT NULL      -- the whole row
);
CREATE INDEX IF NOT EXISTS hookline_events_at ON hookline_events (at);
CREATE INDEX IF NOT EXISTS hookline_events_clientid ON hookline_events (clientid, at);
