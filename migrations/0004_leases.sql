-- +goose Up
CREATE SCHEMA IF NOT EXISTS ops;

-- One row a role that only one process may play at a time. term grows with every new holder, so
-- that a former one cannot renew what it has lost.
CREATE TABLE ops.leases (
    name       text        NOT NULL PRIMARY KEY,
    holder     text        NOT NULL,
    term       bigint      NOT NULL,
    expires_at timestamptz NOT NULL -- by this database's clock alone
);

-- +goose Down
DROP TABLE ops.leases;
