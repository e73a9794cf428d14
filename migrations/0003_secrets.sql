-- +goose Up
-- Keys, all of them wrapped by a key-encryption key that is not in the database. They are kept
-- out of the log: removing an account's row makes every ciphertext of that account unreadable.
CREATE SCHEMA vault;

CREATE TABLE vault.data_keys (
    account_id text COLLATE "C" NOT NULL PRIMARY KEY,
    key_id     bytea       NOT NULL CHECK (octet_length(key_id) = 8), -- also in each ciphertext's header
    wrapped_by text COLLATE "C" NOT NULL,                            -- id of the key-encryption key
    wrapped    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Rotation looks for what the present key-encryption key has not wrapped yet.
CREATE INDEX data_keys_wrapped_by ON vault.data_keys (wrapped_by);

-- Keys of the whole installation, made once: "blind" keys the hashes that stand for e-mail
-- addresses in stream ids, so it must outlive every rotation.
CREATE TABLE vault.named_keys (
    name       text COLLATE "C" NOT NULL PRIMARY KEY,
    wrapped_by text COLLATE "C" NOT NULL,
    wrapped    bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

REVOKE ALL ON SCHEMA vault FROM PUBLIC;

-- +goose Down
DROP SCHEMA vault CASCADE;
