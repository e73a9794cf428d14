-- +goose Up
-- The log: every event ever appended, and the receipts of the commands that appended them.
-- Whoever appends calls log.begin_append() first; nothing else may write here, and nothing is
-- ever changed or removed.
CREATE SCHEMA log;

-- Positions come from a sequence only so that COPY can number rows by itself. begin_append() sets
-- it to the head under the lock, so a rolled back append leaves no gap.
CREATE SEQUENCE log.position;

-- An entry is an event, a command's receipt, or both: the last event of an append carries the
-- receipt, which costs one row and one heap less. The receipt of a command that changed nothing
-- is an entry without an event. So one index tells all used keys.
CREATE TABLE log.entries (
    position bigint      DEFAULT nextval('log.position'),
    version  bigint,
    time     timestamptz,
    schema   integer,
    stream   text COLLATE "C", -- aggregate/id
    type     text COLLATE "C",
    id       text COLLATE "C", -- ULID; unique by construction, so no index pays for it
    data     json,             -- json, not jsonb: the exact bytes
    meta     text,             -- JSON too, but always our own: not worth parsing again
    receipt  text COLLATE "C", -- the key: who and which command
    request  bytea,
    response text,             -- the exact bytes; null if none was given
    CONSTRAINT event_or_receipt CHECK (CASE WHEN position IS NULL
        THEN receipt IS NOT NULL AND stream IS NULL AND version IS NULL
        ELSE version > 0 AND num_nulls(time, schema, stream, type, id, data, meta) = 0 END)
);
ALTER SEQUENCE log.position OWNED BY log.entries.position;

-- The order of the log: nobody takes a position twice.
CREATE UNIQUE INDEX entries_position ON log.entries (position) WHERE position IS NOT NULL;
-- The version check: two writers of one version cannot both commit.
CREATE UNIQUE INDEX entries_version ON log.entries (stream, version) WHERE stream IS NOT NULL;
-- The duplicate check: a key has one outcome.
CREATE UNIQUE INDEX entries_receipt ON log.entries (receipt) WHERE receipt IS NOT NULL;

CREATE VIEW log.events AS
    SELECT position, stream, version, type, schema, id, time, data, meta::json AS meta
    FROM log.entries WHERE position IS NOT NULL;

CREATE VIEW log.receipts AS
    SELECT receipt AS key, request, response::json AS response, coalesce(position, 0) AS position
    FROM log.entries WHERE receipt IS NOT NULL;

-- begin_append takes the log for the rest of the transaction and returns the head. Under READ
-- COMMITTED each statement of a volatile function has its own snapshot, so the head is read
-- after the lock was granted and includes everything committed before.
-- +goose StatementBegin
CREATE FUNCTION log.begin_append(OUT head bigint) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(4801402170);
    SELECT coalesce(max(e.position), 0) INTO head FROM log.entries e;
    PERFORM setval('log.position', head + 1, false),
            set_config('cloudbot.appending', 'on', true),
            pg_notify('cloudbot_log', '');
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION log.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on log.% is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'The log is written by appending only: log.begin_append().';
END $$;
-- +goose StatementEnd

-- Triggers bind the owner and superusers too, which rights would not. They are checked once a
-- statement, and an append never calls the function: the WHEN clause lets it pass.
CREATE TRIGGER only_append BEFORE INSERT ON log.entries FOR EACH STATEMENT
    WHEN (current_setting('cloudbot.appending', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION log.refuse();
CREATE TRIGGER never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON log.entries
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse();

REVOKE ALL ON SCHEMA log FROM PUBLIC;
REVOKE ALL ON FUNCTION log.begin_append() FROM PUBLIC;

-- An append-only table needs no frequent vacuum, but its visibility map helps replay.
ALTER TABLE log.entries SET (autovacuum_vacuum_insert_scale_factor = 0.5);

-- +goose Down
DROP SCHEMA log CASCADE;
