-- Every client and message event, one row each. hookline_id makes a second delivery of one record harmless.
CREATE TABLE IF NOT EXISTS hookline_events (
    hookline_id   VARCHAR(255) NOT NULL PRIMARY KEY,
    at            DATETIME(3) NOT NULL,  -- UTC
    event         VARCHAR(64) NOT NULL,  -- hook point, such as client.connected
    clientid      TEXT,
    username      TEXT,
    peername      TEXT,
    topic         TEXT,
    qos           TINYINT,
    payload       LONGBLOB,
    message_id    VARCHAR(64),
    from_clientid TEXT,                  -- the publisher, where the event is a subscriber's
    reason        TEXT,
    details       JSON NOT NULL,         -- the whole row
    INDEX hookline_events_at (at),
    INDEX hookline_events_clientid (clientid(128), at)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
