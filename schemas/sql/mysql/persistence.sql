-- What is kept for clients. The names are those of EMQX's backends; what is added to them is said beside it. Times are seconds since the Unix epoch.
CREATE TABLE IF NOT EXISTS mqtt_client (
    id         bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    clientid   varchar(255) COLLATE utf8mb4_bin NOT NULL UNIQUE,
    state      smallint NOT NULL,     -- 1: connected
    node       varchar(255) NOT NULL,
    online_at  bigint,
    offline_at bigint,
    created    timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) DEFAULT CHARSET = utf8mb4;
CREATE TABLE IF NOT EXISTS mqtt_sub (
    id       bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    clientid varchar(255) COLLATE utf8mb4_bin NOT NULL,
    topic    varchar(500) COLLATE utf8mb4_bin NOT NULL,
    qos      smallint NOT NULL DEFAULT 1,
    created  timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    UNIQUE KEY (clientid, topic)
) DEFAULT CHARSET = utf8mb4;
CREATE TABLE IF NOT EXISTS mqtt_msg (
    id         bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    -- 32 hexadecimal digits in upper case.
    msgid      char(32) COLLATE utf8mb4_bin NOT NULL DEFAULT (upper(replace(uuid(), '-', ''))) UNIQUE,
    topic      varchar(700) COLLATE utf8mb4_bin NOT NULL,
    sender     varchar(255) NOT NULL DEFAULT '',
    node       varchar(255) NOT NULL DEFAULT '',
    qos        smallint NOT NULL DEFAULT 1,
    retain     smallint NOT NULL DEFAULT 0,
    payload    longblob NOT NULL,
    arrived    bigint NOT NULL DEFAULT (unix_timestamp()),
    expires_at bigint,                -- added: the end of the message expiry interval
    KEY mqtt_msg_topic (topic),
    KEY mqtt_msg_arrived (arrived)
) DEFAULT CHARSET = utf8mb4;
CREATE TABLE IF NOT EXISTS mqtt_retain (
    id         bigint unsigned AUTO_INCREMENT PRIMARY KEY,
    topic      varchar(700) COLLATE utf8mb4_bin NOT NULL UNIQUE,
    msgid      char(32) COLLATE utf8mb4_bin NOT NULL DEFAULT (upper(replace(uuid(), '-', ''))),
    sender     varchar(255) NOT NULL DEFAULT '',
    node       varchar(255) NOT NULL DEFAULT '',
    qos        smallint NOT NULL DEFAULT 1,
    payload    longblob NOT NULL,
    arrived    bigint NOT NULL DEFAULT (unix_timestamp()),
    expires_at bigint                 -- added
) DEFAULT CHARSET = utf8mb4;
-- One row for each message that a client has acknowledged, and not a position: a position would pass over messages that were overtaken.
CREATE TABLE IF NOT EXISTS mqtt_acked (
    clientid varchar(255) COLLATE utf8mb4_bin NOT NULL,
    msgid    char(32) COLLATE utf8mb4_bin NOT NULL,
    topic    varchar(700) COLLATE utf8mb4_bin NOT NULL,
    created  bigint NOT NULL,
    PRIMARY KEY (clientid, msgid),
    KEY mqtt_acked_created (created)
) DEFAULT CHARSET = utf8mb4;
