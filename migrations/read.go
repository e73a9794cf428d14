package migrations

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
)

// migration is one numbered file.
type migration struct {
	version  int64
	name     string // without number and ending
	file     string
	up, down string
	oldest   int64 // of the contract that it declares; 0: it takes nothing away
}

// contract is how a migration declares that it takes something away: see 0012_schema_contracts.sql.
var contract = regexp.MustCompile(`(?im)^\s*INSERT INTO ops\.schema_contracts \(version, oldest\) VALUES \((\d+), (\d+)\);`)

const downMarker = "-- +goose Down"

// read returns the migrations in their order.
func (s set) read() (all []migration, err error) {
	names, err := fs.Glob(s.files, "*.sql") // sorted, and all numbers have four digits
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		number, name, _ := strings.Cut(strings.TrimSuffix(file, ".sql"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		text, err := fs.ReadFile(s.files, file)
		if err != nil {
			return nil, err
		}
		m := migration{version: version, name: name, file: file}
		m.up, m.down, _ = strings.Cut(string(text), downMarker)
		if c := contract.FindStringSubmatch(m.up); c != nil {
			m.oldest, _ = strconv.ParseInt(c[2], 10, 64)
		}
		all = append(all, m)
	}
	return all, nil
}

// String is how messages name a migration.
func (m migration) String() string { return fmt.Sprintf("migration %d (%s)", m.version, m.name) }
