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

-- The limits of accounts and their desktops, and how much of them is spent: the fold of a budget's events.
CREATE TABLE read.budgets (
    account text COLLATE "C" PRIMARY KEY,
    state   jsonb NOT NULL,
    limited boolean NOT NULL -- whether it has a limit
);
-- What is checked every minute.
CREATE INDEX ON read.budgets (account) WHERE limited;

-- When desktops stop by themselves, and what is known of their use.

-- What the log says about each desktop's idle stop: its policy, its warning, and why it was stopped.
CREATE TABLE read.idle (
    id       text COLLATE "C" PRIMARY KEY,
    account  text COLLATE "C" NOT NULL,
    type     text NOT NULL,
    status   text NOT NULL,
    running  boolean NOT NULL,     -- the cloud last reported its machine running
    run_at   timestamptz,          -- when the current run was first seen
    wake_at  timestamptz,          -- when it is started again for a job; null: it is not
    facts    jsonb NOT NULL,       -- what no query looks for
    position bigint NOT NULL
);
-- What the keeper looks at every few seconds.
CREATE INDEX ON read.idle (id) WHERE status = 'running';
CREATE INDEX ON read.idle (wake_at) WHERE wake_at IS NOT NULL AND status = 'stopped';

-- The policy of the account's desktops that have none of their own; null: the default.
ALTER TABLE read.accounts ADD COLUMN idle_policy jsonb;

-- When each desktop was last used. Its machine reports it every few seconds, so it is no part of the log. Times are by
-- the database's clock; null: never, or not known. Erasing an account removes its rows with its key.
CREATE TABLE ops.activity (
    instance_id text COLLATE "C" NOT NULL PRIMARY KEY,
    account_id  text COLLATE "C" NOT NULL REFERENCES vault.data_keys ON DELETE CASCADE,
    run_at      timestamptz,          -- the run that since belongs to, as the log names it
    since       timestamptz NOT NULL, -- when the database first knew this run, or lost what it knew of it
    input_at    timestamptz,
    chat_at     timestamptz,
    agent_at    timestamptz,
    question_at timestamptz,
    shell_at    timestamptz,
    known_at    timestamptz,          -- since when the machine reports without a gap
    reported_at timestamptz,          -- the latest report
    blind       boolean NOT NULL DEFAULT false, -- it could not say whether the agent works
    next_job_at timestamptz
) WITH (fillfactor = 50); -- rows change often and no index does: the new version fits on the same page
CREATE INDEX ON ops.activity (account_id);

-- Until when each machine certainly ran and existed, as the saga has seen it: one row, for the next process. Unlogged: after a
-- crash there is none, and a run that ended meanwhile may be charged for less.
CREATE UNLOGGED TABLE ops.looks (
    one  boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (one),
    text bytea   NOT NULL
);

-- +goose Down
DROP TABLE ops.activity;
ALTER TABLE read.accounts DROP COLUMN idle_policy;
DROP TABLE read.idle;
DROP TABLE read.budgets;
DROP TABLE ops.looks;
DROP TABLE read.usage_models;
DROP TABLE read.usage_intervals;
DROP TABLE read.usage_desktops;
