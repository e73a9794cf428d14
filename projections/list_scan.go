package projections

import (
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// listColumns are the columns of an instance with those of its row of read.idle, which may be missing.
const listColumns = `i.id, i.name, i.status, i.phase, i.detail, i.reason, i.type, i.region, i.address, i.machine,
	i.created_at, i.updated_at, i.phase_since, i.position, i.versions, d.type, d.status, d.running, d.run_at, d.wake_at, d.facts`

// usualPage is how many rows a list has room for at first.
const usualPage = 21

// scanList reads listColumns of an account's instances, with their sealed names. An Instance is large, so each is filled in where
// it stays. Most of an account's desktops share their words, versions and facts, which are decoded once.
func scanList(rows pgx.Rows, account string) (list []Instance, names [][]byte, err error) {
	defer rows.Close()
	var (
		id, name, status, phase, detail, reason, kind, region, address, machine pgtype.DriverBytes // valid until the next row
		versions, idleKind, idleStatus, facts                                   pgtype.DriverBytes
		created, updated, since, run, wake                                      pgtype.Timestamptz
		running                                                                 pgtype.Bool
		position                                                                int64

		shared = words{}
		maps   = map[string]map[string]string{}
		known  = map[string]idleFacts{}
		dest   = []any{&id, &name, &status, &phase, &detail, &reason, &kind, &region, &address, &machine, &created, &updated, &since,
			&position, &versions, &idleKind, &idleStatus, &running, &run, &wake, &facts}
	)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return nil, nil, err
		}
		if list == nil {
			list, names = make([]Instance, 0, usualPage), make([][]byte, 0, usualPage)
		}
		names = append(names, append([]byte(nil), name...))
		list = append(list, Instance{})
		i := &list[len(list)-1]
		i.ID, i.Status, i.Phase = string(id), instance.Status(shared.text(status)), instance.Phase(shared.text(phase))
		i.Detail, i.Reason, i.Type, i.Region = shared.text(detail), shared.text(reason), shared.text(kind), shared.text(region)
		i.Address, i.Machine, i.Position = string(address), string(machine), position
		i.CreatedAt, i.UpdatedAt, i.PhaseSince = created.Time, updated.Time, since.Time
		if i.Versions, err = decoded(maps, versions); err != nil {
			return nil, nil, err
		}
		if idleKind == nil {
			continue
		}
		f, err := decoded(known, facts)
		if err != nil {
			return nil, nil, err
		}
		d := &i.Idle.State
		d.Account, d.Type, d.Status, d.Running = account, shared.text(idleKind), instance.Status(shared.text(idleStatus)), running.Bool
		f.tell(d, run.Time, wake.Time)
		i.Idle.Cause, i.Idle.Why, i.Idle.Jobs, i.Idle.NextJob = f.Cause, f.Why, f.Jobs, f.NextJob
	}
	return list, names, rows.Err()
}

// words are texts that the rows of a list share.
type words map[string]string

func (w words) text(b []byte) string {
	text, ok := w[string(b)]
	if !ok {
		text = string(b)
		w[text] = text
	}
	return text
}

// decoded returns what a column's JSON stands for, which before holds if a row before had the same.
func decoded[T any](before map[string]T, column []byte) (T, error) {
	v, ok := before[string(column)]
	if ok {
		return v, nil
	}
	err := json.Unmarshal(column, &v)
	before[string(column)] = v
	return v, err
}
