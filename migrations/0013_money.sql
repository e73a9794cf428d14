-- +goose Up
-- What desktops used, folded from the log: see domain/usage. The fold of an instance's events so far.
CREATE TABLE read.usage_desktops (
    instance text COLLATE "C" PRIMARY KEY,
    state    jsonb NOT NULL
);

-- The times during which a desktop used something.
CREATE TABLE read.usage_intervals (
    instance text COLLATE "C" NOT NULL,
    n        bigint NOT NULL, -- its number among the desktop's
    account  text COLLATE "C" NOT NULL,
    kind     text COLLATE "C" NOT NULL, -- compute, disk or address
    region   text NOT NULL,
    type     text NOT NULL,
    gib      bigint NOT NULL, -- of a disk; 0: unknown
    from_at  timestamptz NOT NULL,
    to_at    timestamptz NOT NULL, -- infinity: it is open
    ended_by text NOT NULL, -- how its end is known; empty: it is open
    PRIMARY KEY (instance, n)
);
-- What an account, or all of them, used since a time.
CREATE INDEX ON read.usage_intervals (account, to_at);
CREATE INDEX ON read.usage_intervals (to_at);

-- What the models cost on a UTC day, as the gateways estimate it.
CREATE TABLE read.usage_models (
    instance text COLLATE "C" NOT NULL,
    day      date NOT NULL,
    account  text COLLATE "C" NOT NULL,
    type     text NOT NULL, -- of the machine
    micros   bigint NOT NULL,
    PRIMARY KEY (instance, day)
);
CREATE INDEX ON read.usage_models (account, day);
CREATE INDEX ON read.usage_models (day);

-- Until when each machine certainly ran and existed, as the saga has seen it: one row, for the next process. Unlogged: after a
-- crash there is none, and a run that ended meanwhile may be charged for less.
CREATE UNLOGGED TABLE ops.looks (
    one  boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    text bytea   NOT NULL
);

-- +goose Down
DROP TABLE ops.looks;
DROP TABLE read.usage_models;
DROP TABLE read.usage_intervals;
DROP TABLE read.usage_desktops;
