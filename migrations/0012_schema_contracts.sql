-- +goose Up
-- The migrations that took something away from older programs. A program runs on a schema if the newest migration that
-- it knows is at least the greatest oldest here. A migration that takes something away adds its row itself:
--   INSERT INTO ops.schema_contracts (version, oldest) VALUES (15, 14);
CREATE TABLE ops.schema_contracts (
    version bigint NOT NULL PRIMARY KEY, -- the number of the migration
    oldest  bigint NOT NULL CHECK (oldest <= version)
);
-- A role that runs the server and does not own the schema reads it, too.
GRANT SELECT ON ops.schema_contracts TO PUBLIC;

-- +goose Down
DROP TABLE ops.schema_contracts;
