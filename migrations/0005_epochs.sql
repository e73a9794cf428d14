-- +goose Up
-- What the relay must remember: how often the log came back shorter than what was published.
CREATE SCHEMA relay;

-- The greatest epoch is the one that published messages belong to. at_position is the last
-- position on which it agrees with what was published before it.
CREATE TABLE relay.epochs (
    epoch       integer     PRIMARY KEY CHECK (epoch > 0),
    reason      text        NOT NULL,
    at_position bigint      NOT NULL CHECK (at_position >= 0),
    began_at    timestamptz NOT NULL DEFAULT now()
);
INSERT INTO relay.epochs (epoch, reason, at_position) VALUES (1, 'the log begins', 0);

REVOKE ALL ON SCHEMA relay FROM PUBLIC;

-- +goose Down
DROP SCHEMA relay CASCADE;
