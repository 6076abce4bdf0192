-- Every client and message event, one row each. hookline_id makes a second delivery of one record harmless.
CREATE TABLE IF NOT EXISTS events (
    hookline_id   TEXT PRIMARY KEY,
    at            TEXT NOT NULL,   -- RFC 3339, UTC
    event         TEXT NOT NULL,   -- hook point, such as client.connected
    clientid      TEXT,
    username      TEXT,
    peername      TEXT,
    topic         TEXT,
    qos           INTEGER,
    payload       BLOB,
    message_id    TEXT,
    from_clientid TEXT,            -- the publisher, where the event is a subscriber's
    reason        TEXT,
    details       TEXT NOT NULL    -- the whole row as JSON
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_at ON events (at);
CREATE INDEX IF NOT EXISTS events_clientid ON events (clientid, at);
