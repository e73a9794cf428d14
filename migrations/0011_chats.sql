-- +goose Up
-- The newest chats of each instance, which its owner reads while the machine is stopped. They are sealed under the
-- account's data key and are no part of the log. Without the key's row there can be none: erasing an account removes
-- them, and one that arrives later is refused.
CREATE TABLE vault.chats (
    instance_id text COLLATE "C" NOT NULL PRIMARY KEY,
    account_id  text COLLATE "C" NOT NULL REFERENCES vault.data_keys ON DELETE CASCADE,
    saved_at    timestamptz NOT NULL,
    sealed      bytea       NOT NULL
);
-- What an account has in all, and what goes with its key.
CREATE INDEX ON vault.chats (account_id);

-- +goose Down
DROP TABLE vault.chats;
