-- Read models: everything here can be dropped and rebuilt from the log (cloudbot replay).

-- +goose Up
CREATE SCHEMA read;

-- How far each projection is. Its rows change in the same transaction.
CREATE TABLE read.checkpoints (
    projection text COLLATE "C" PRIMARY KEY,
    position   bigint NOT NULL
);

-- Events that a projection could not apply, and those of the same stream that came after them.
CREATE TABLE read.parked (
    projection text COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    stream     text COLLATE "C" NOT NULL,
    error      text NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, position)
);

CREATE TABLE read.instances (
    id          text COLLATE "C" PRIMARY KEY,
    account     text COLLATE "C" NOT NULL,
    name        bytea NOT NULL, -- sealed
    status      text NOT NULL,
    phase       text NOT NULL,
    detail      text NOT NULL DEFAULT '',
    reason      text NOT NULL DEFAULT '',
    type        text NOT NULL,
    region      text NOT NULL,
    address     text NOT NULL DEFAULT '',
    machine     text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    phase_since timestamptz NOT NULL,
    position    bigint NOT NULL
);
-- The list of an account, newest first: ids are ULIDs.
CREATE INDEX ON read.instances (account, id DESC);
-- What the saga starts from.
CREATE INDEX ON read.instances (id) WHERE status NOT IN ('terminated', 'failed');

CREATE TABLE read.sessions (
    id          text COLLATE "C" PRIMARY KEY,
    account     text COLLATE "C" NOT NULL,
    agent       text NOT NULL,
    address     bytea, -- sealed
    started_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    ended       text NOT NULL DEFAULT '',
    ended_at    timestamptz
);
CREATE INDEX ON read.sessions (account, seen_at DESC) WHERE ended = '';
CREATE INDEX ON read.sessions (ended_at) WHERE ended <> '';

CREATE TABLE read.api_keys (
    account    text COLLATE "C" NOT NULL,
    provider   text COLLATE "C" NOT NULL,
    last4      text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (account, provider)
);

-- The events an owner may read, without secrets: history and live events.
CREATE TABLE read.history (
    account  text COLLATE "C" NOT NULL,
    position bigint NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    time     timestamptz NOT NULL,
    type     text COLLATE "C" NOT NULL,
    subject  text COLLATE "C" NOT NULL,
    actor    text COLLATE "C" NOT NULL,
    sentence text NOT NULL,
    data     json NOT NULL,
    PRIMARY KEY (account, position)
);
CREATE INDEX ON read.history (subject, position);

-- +goose Down
DROP SCHEMA read CASCADE;
