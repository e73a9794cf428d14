// Package backup copies what cannot be rebuilt out of Postgres into a folder or a bucket, and back into an empty
// database. It uses COPY in text form over an ordinary connection: text is the same for every major version of
// PostgreSQL, and a shell can read it (zcat). One snapshot covers all tables, and no lock delays an append.
//
// The one thing to know: the manifest is written last. A folder or prefix without a manifest is not a backup, and
// nothing is loaded before every checksum in the manifest has been checked.
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// Format is the version of the layout that Make writes. Load refuses any other.
const Format = 1

// manifestName is the object that makes a folder or prefix a backup.
const manifestName = "manifest.json"

// maxManifest bounds a manifest in bytes: 100,000 parts of 16 MiB fit into it.
const maxManifest = 32 << 20

// table is a table that a backup contains, with the order of its rows.
type table struct{ name, order string }

// kept lists the tables that a backup contains, those that others refer to first.
var kept = []table{
	{"log.entries", "position NULLS FIRST, receipt_key"},
	{"vault.named_keys", "name"},
	{"vault.data_keys", "account_id"},
	{"vault.chats", "instance_id"},
	{"relay.epochs", "epoch"},
}

// disposable lists the tables that a backup leaves out, with the reason. A name that ends in a dot is a whole schema.
var disposable = map[string]string{
	"read.":                 "read models, which are rebuilt from the log",
	"ops.comparisons":       "when Stripe was last compared with the log: servers compare it again",
	"ops.deliveries":        "which messages of Stripe were handled: handling one again has no effect",
	"ops.activity":          "when desktops were last used: their machines report it again",
	"ops.looks":             "when machines were last seen running: the saga looks again",
	"ops.leases":            "which server runs which background role: servers take them again",
	"ops.schema_contracts":  "which schemas older programs run on: migrations write it again",
	"ops.schema_migrations": "the schema's version: the manifest has it, and restore migrates to it",
	"ops.tickets":           "valid for 30 seconds; a restore ends them",
	"ops.web_files":         "the dashboard's files: each server stores its own at its start",
}

// Manifest describes a backup.
type Manifest struct {
	Format      int       `json:"format"`
	ID          string    `json:"id"`       // ULID
	MadeAt      time.Time `json:"made_at"`  // of the snapshot, by the database's clock
	CloudBot    string    `json:"cloudbot"` // version of the program that made it
	PostgreSQL  string    `json:"postgresql"`
	Schema      int64     `json:"schema"` // version of the database's schema
	Environment string    `json:"environment"`
	Epoch       int       `json:"epoch"`
	Head        int64     `json:"head"`      // last position of the log
	Positions   int64     `json:"positions"` // events in the log; equal to Head unless positions are missing
	Keys        []string  `json:"keys"`      // ids of the keys of ENCRYPTION_KEY that it needs; never the keys
	Tables      []Table   `json:"tables"`
	SHA256      string    `json:"sha256"` // of the manifest with this field empty
}

// Table is one table of a backup.
type Table struct {
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Rows    int64    `json:"rows"`
	Bytes   int64    `json:"bytes"`  // before compression
	SHA256  string   `json:"sha256"` // before compression, of all parts together
	Parts   []Part   `json:"parts"`
}

// Part is one object: rows of a table in COPY's text form, compressed with gzip.
type Part struct {
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// oldestSchema is the oldest schema whose rows fit into the current tables as they are. A migration that changes the
// rows of a kept table raises it.
const oldestSchema = 11

// Fits refuses a backup whose schema this program cannot load. known is the newest schema that the program knows.
func (m Manifest) Fits(known int64) error {
	switch {
	case m.Schema > known:
		return fmt.Errorf("the backup has schema %d, and this program knows only up to %d: restore it with CloudBot %s or a newer version", m.Schema, known, m.CloudBot)
	case m.Schema < oldestSchema:
		return fmt.Errorf("the backup has schema %d, and this program restores from %d on: restore it with CloudBot %s, then start this version", m.Schema, oldestSchema, m.CloudBot)
	}
	return nil
}

// Size returns the bytes of all parts.
func (m Manifest) Size() (n int64) {
	for _, t := range m.Tables {
		for _, p := range t.Parts {
			n += p.Bytes
		}
	}
	return n
}

// Rows returns the number of rows of a table.
func (m Manifest) Rows(name string) int64 {
	for _, t := range m.Tables {
		if t.Name == name {
			return t.Rows
		}
	}
	return 0
}

// Source is where a backup is read. Get returns fs.ErrNotExist if there is no such object.
type Source interface {
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	String() string
}

// Target is where a backup is written. Put stores a whole object of at most 17 MiB or, for the manifest, 32 MiB.
type Target interface {
	Put(ctx context.Context, name string, content []byte) error
	String() string
}

// seal returns the manifest as JSON, with its own checksum.
func (m Manifest) seal() ([]byte, error) {
	m.SHA256 = ""
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	m.SHA256 = hex.EncodeToString(sum[:])
	text, err = json.MarshalIndent(m, "", "  ")
	return append(text, '\n'), err
}

// NoBackup says that a place has no manifest. It is fs.ErrNotExist.
type NoBackup struct{ place string }

func (e *NoBackup) Error() string {
	return fmt.Sprintf("%s is not a backup, or the backup was interrupted: it has no %s; use another one", e.place, manifestName)
}

// Is implements errors.Is.
func (*NoBackup) Is(err error) bool { return err == fs.ErrNotExist }

// Read returns the manifest of a backup. It refuses one that is missing, damaged or of another format.
func Read(ctx context.Context, from Source) (Manifest, error) {
	var m Manifest
	r, err := from.Get(ctx, manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return m, &NoBackup{from.String()}
	}
	if err != nil {
		return m, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return m, fmt.Errorf("read %s of %s: %w", manifestName, from, err)
	}
	if len(text) > maxManifest || json.Unmarshal(text, &m) != nil {
		return m, damaged(from, manifestName+" cannot be read")
	}
	if m.Format != Format {
		return m, fmt.Errorf("backup %s has format %d, and this program reads only format %d: use the program that made it (CloudBot %s)", from, m.Format, Format, m.CloudBot)
	}
	again, err := m.seal()
	if err != nil {
		return m, err
	}
	var check Manifest
	if err := json.Unmarshal(again, &check); err != nil {
		return m, err
	}
	if check.SHA256 != m.SHA256 {
		return m, damaged(from, manifestName+" has another checksum than it says")
	}
	return m, m.plausible(from)
}

var (
	partName   = regexp.MustCompile(`^[a-z_]+\.[a-z_]+\.\d{5}\.gz$`)
	columnName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
)

// plausible refuses a manifest that names tables, columns or objects which Make does not write.
func (m Manifest) plausible(from Source) error {
	if _, err := ulid.ParseStrict(m.ID); err != nil {
		return damaged(from, manifestName+" has no valid id")
	}
	if len(m.Tables) > len(kept) {
		return damaged(from, manifestName+" lists a table twice")
	}
	for i, t := range m.Tables {
		if orderOf(t.Name) == "" {
			return fmt.Errorf("backup %s contains the table %s, which this program does not know: use the program that made it (CloudBot %s) or a newer one", from, t.Name, m.CloudBot)
		}
		for _, other := range m.Tables[:i] {
			if other.Name == t.Name {
				return damaged(from, manifestName+" lists a table twice")
			}
		}
		for _, c := range t.Columns {
			if !columnName.MatchString(c) {
				return damaged(from, manifestName+" names a column that cannot exist")
			}
		}
		for _, p := range t.Parts {
			if !partName.MatchString(p.Name) || !strings.HasPrefix(p.Name, t.Name+".") {
				return damaged(from, manifestName+" names an object that cannot exist")
			}
		}
	}
	return nil
}

// orderOf returns the order of a table's rows; "": backups do not contain it.
func orderOf(name string) string {
	for _, t := range kept {
		if t.name == name {
			return t.order
		}
	}
	return ""
}

// damaged returns the refusal of a backup.
func damaged(from Source, what string) error {
	return fmt.Errorf("backup %s is damaged: %s; use another backup", from, what)
}
