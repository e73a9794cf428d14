package migrations

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Entry is one migration as Status lists it.
type Entry struct {
	Version int64     `json:"version"`
	Name    string    `json:"name"`              // "": of a newer program
	Applied time.Time `json:"applied,omitzero"`  // zero: it is pending
	Oldest  int64     `json:"contract,omitzero"` // the version that programs must know since then; 0: it took nothing away
}

// Status lists the migrations that this program has or the database knows, and describes the schema. It changes
// nothing, and also answers for databases that Check refuses.
func Status(ctx context.Context, databaseURL string) (list []Entry, found Database, err error) {
	return ours.status(ctx, databaseURL)
}

func (s set) status(ctx context.Context, databaseURL string) (list []Entry, found Database, err error) {
	config, err := parse(databaseURL)
	if err != nil {
		return nil, found, err
	}
	conn, err := connect(ctx, config)
	if err != nil {
		return nil, found, fmt.Errorf("DATABASE_URL does not answer: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if found.Server, err = serverVersion(ctx, conn, Oldest); err != nil {
		return nil, found, err
	}
	if err := s.schema(ctx, conn, &found); err != nil {
		return nil, found, err
	}
	all, err := s.read()
	if err != nil {
		return nil, found, err
	}
	done, _, err := applied(ctx, conn)
	if err != nil {
		return nil, found, err
	}
	for _, m := range all {
		list = append(list, Entry{m.version, m.name, done[m.version], m.oldest})
		delete(done, m.version)
	}
	for v, at := range done {
		list = append(list, Entry{Version: v, Applied: at})
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Compare(a.Version, b.Version) })
	return list, found, ofNewer(ctx, conn, list)
}

// ofNewer adds the contracts of migrations that only the database knows.
func ofNewer(ctx context.Context, conn *pgx.Conn, list []Entry) error {
	var there bool
	if err := conn.QueryRow(ctx, hasContracts, simple).Scan(&there); err != nil || !there {
		return err
	}
	rows, err := conn.Query(ctx, `SELECT version, oldest FROM ops.schema_contracts`, simple)
	if err != nil {
		return err
	}
	var version, oldest int64
	_, err = pgx.ForEachRow(rows, []any{&version, &oldest}, func() error {
		if i := slices.IndexFunc(list, func(e Entry) bool { return e.Version == version }); i >= 0 {
			list[i].Oldest = oldest
		}
		return nil
	})
	return err
}
