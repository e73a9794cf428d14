-- +goose Up
-- The log: every event ever appended, and the receipts of the commands that appended them.
-- Whoever appends calls log.begin_append() first; nothing else may write here, and nothing is
-- ever changed or removed.
CREATE SCHEMA log;

-- An entry is an event, a command's receipt, or both: the last event of an append carries the
-- receipt, which costs one row and one heap less. The receipt of a command that changed nothing
-- is an entry without an event: no position, no stream. So one index tells all used keys.
--
-- Names stand in the indexes as the 16 bytes of indexKey (eventstore/postgres/key.go): a third of
-- the work of text. There is no CHECK, no DEFAULT and no partial index, because Postgres prepares
-- their expressions anew for every statement; log.admit() lets nobody in who could write nonsense.
CREATE TABLE log.entries (
    position    bigint,
    version     bigint,
    time        timestamptz,
    schema      integer,
    stream_key  uuid,
    receipt_key uuid,
    stream      text COLLATE "C", -- aggregate/id
    type        text COLLATE "C",
    id          text COLLATE "C", -- ULID; unique by construction, so no index pays for it
    data        text,             -- JSON, the exact bytes; the append path has checked it
    meta        text,             -- JSON too
    receipt     text COLLATE "C", -- the key: who and which command
    request     bytea,
    response    text              -- the exact bytes; null if none was given
);

-- The order of the log: nobody takes a position twice. Made first, so that it is also the first
-- to object. What is absent sorts first in all three, which keeps the newest at the right end.
CREATE UNIQUE INDEX entries_position ON log.entries (position NULLS FIRST);
-- The version check: two writers of one version cannot both commit.
CREATE UNIQUE INDEX entries_version ON log.entries (stream_key NULLS FIRST, version);
-- The duplicate check: a key has one outcome.
CREATE UNIQUE INDEX entries_receipt ON log.entries (receipt_key NULLS FIRST);

CREATE VIEW log.events AS
    SELECT position, stream, version, type, schema, id, time, data::json AS data, meta::json AS meta
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
    PERFORM set_config('cloudbot.appending', 'on', true), pg_advisory_xact_lock(4801402170);
    SELECT coalesce(max(e.position), 0) INTO head FROM log.entries e;
END $$;
-- +goose StatementEnd

-- admit lets nothing in but the append path's INSERT, sees to it that this holds the log's lock,
-- and tells other processes' readers. Assignments instead of PERFORM: they need no query.
-- +goose StatementBegin
CREATE FUNCTION log.admit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE done text;
BEGIN
    IF TG_OP <> 'INSERT' OR current_setting('cloudbot.appending', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION '% on log.% is refused', TG_OP, TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'The log is written by appending only: log.begin_append().';
    END IF;
    done := pg_advisory_xact_lock(4801402170);
    done := pg_notify('cloudbot_log', '');
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- Triggers bind the owner and superusers too, which rights would not.
CREATE TRIGGER only_append BEFORE INSERT ON log.entries FOR EACH STATEMENT EXECUTE FUNCTION log.admit();
CREATE TRIGGER never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON log.entries
    FOR EACH STATEMENT EXECUTE FUNCTION log.admit();

REVOKE ALL ON SCHEMA log FROM PUBLIC;
REVOKE ALL ON FUNCTION log.begin_append() FROM PUBLIC;

-- An append-only table needs no frequent vacuum, but its visibility map helps replay.
ALTER TABLE log.entries SET (autovacuum_vacuum_insert_scale_factor = 0.5);

-- +goose Down
DROP SCHEMA log CASCADE;
