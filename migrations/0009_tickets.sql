-- +goose Up
-- Tickets that WebSockets are opened with, each once. Unlogged: issuing one waits for no disk, and after
-- a crash or a failover there are none, so their holders ask for new ones.
CREATE UNLOGGED TABLE ops.tickets (
    hash       bytea       NOT NULL PRIMARY KEY, -- SHA-256 of the token
    account    text        NOT NULL,
    session    text        NOT NULL,
    instance   text        NOT NULL,
    kind       text        NOT NULL,
    mode       text        NOT NULL,
    expires_at timestamptz NOT NULL
);
-- For the removal of those that were not used.
CREATE INDEX ON ops.tickets (expires_at);

-- +goose Down
DROP TABLE ops.tickets;
