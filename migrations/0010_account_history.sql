-- +goose Up
-- An account's own events, beside however many its instances have.
CREATE INDEX ON read.history (account, position) WHERE subject NOT LIKE 'instance/%';

-- +goose Down
-- A rebuild gives the index a name of its own, and an index less does no harm.
DROP INDEX IF EXISTS read.history_account_position_idx;
