-- +goose Up
-- The dashboard's hashed files, of this build and of earlier ones. Disposable: only pages opened
-- before a deploy ask for them.
CREATE TABLE ops.web_files (
    name    text        NOT NULL PRIMARY KEY,
    data    bytea       NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now() -- when a replica last started with it
);

-- +goose Down
DROP TABLE ops.web_files;
