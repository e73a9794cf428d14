-- +goose Up
-- What the machine runs, by name, as it says itself.
ALTER TABLE read.instances ADD COLUMN versions jsonb NOT NULL DEFAULT '{}';

-- How long boots take: one row a boot, from the request on.
CREATE TABLE read.boots (
    instance   text COLLATE "C" NOT NULL,
    began      bigint NOT NULL, -- position of the event that asked for it
    type       text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL, -- launch, or start
    started_at timestamptz NOT NULL,
    reached    jsonb NOT NULL DEFAULT '{}', -- phase: milliseconds from started_at
    ready_at   timestamptz, -- null: not ready, or never
    over       boolean NOT NULL DEFAULT false, -- nothing more is expected
    PRIMARY KEY (instance, began)
);
-- An instance has one boot at a time, which the next phase belongs to.
CREATE UNIQUE INDEX ON read.boots (instance) WHERE NOT over;
-- The latest ones, of all types or of one.
CREATE INDEX ON read.boots (kind, began DESC) WHERE ready_at IS NOT NULL;
CREATE INDEX ON read.boots (kind, type, began DESC) WHERE ready_at IS NOT NULL;

-- +goose Down
DROP TABLE read.boots;
ALTER TABLE read.instances DROP COLUMN versions;
