-- +goose Up
-- The operator's list of accounts, and which of them are suspended.
CREATE TABLE read.accounts (
    id           text COLLATE "C" PRIMARY KEY,
    email        bytea NOT NULL, -- sealed
    created_at   timestamptz NOT NULL,
    suspended_at timestamptz, -- null: not suspended
    reason       text NOT NULL DEFAULT '', -- of the suspension
    position     bigint NOT NULL -- of the last change
);
-- What each front refuses, and what the suspensions' enforcement starts from.
CREATE INDEX ON read.accounts (id) WHERE suspended_at IS NOT NULL;

-- +goose Down
DROP TABLE read.accounts;
