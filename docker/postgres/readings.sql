-- Readings of devices. hookline_id makes a second delivery of one record harmless.
CREATE TABLE IF NOT EXISTS readings (
    hookline_id text PRIMARY KEY,
    device      text NOT NULL,
    celsius     double precision,
    at          timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS readings_device ON readings (device, at);
