// Package projections holds the read models: how an event becomes rows, how the rows follow the log, and the
// queries over them. A read model is one file, with its rows and its queries: instances.go, history.go.
//
// The one thing to know: rows and checkpoint change in one transaction, and event n is applied only on
// checkpoint n−1. A projection therefore always equals a fold of the log, may run on any number of replicas
// at once, and may be deleted and rebuilt.
package projections

import (
	"fmt"
	"strings"

	"github.com/cloudbot-ai/control-plane/domain/events"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Projection turns events into rows.
type Projection struct {
	Name   string   // of its checkpoint
	Tables []string // in schema read, without the schema
	// Apply returns the statements that bring the tables from position e.Position−1 to e.Position.
	// They name tables without a schema. It is pure; an error parks the event.
	Apply func(e eventstore.Event) ([]Statement, error)
	// Fold is set instead of Apply where a row follows from the row before.
	Fold *Fold
}

// Statement is one SQL statement with its arguments.
type Statement struct {
	SQL  string
	Args []any
}

func sql(text string, args ...any) []Statement { return []Statement{{text, args}} }

// All returns the projections.
func All() []Projection {
	return []Projection{
		{Name: "accounts", Tables: []string{"accounts"}, Apply: applyAccounts},
		{Name: "instances", Tables: []string{"instances"}, Fold: foldInstances()},
		{Name: "idle", Tables: []string{"idle"}, Fold: foldIdle()},
		{Name: "boots", Tables: []string{"boots"}, Apply: applyBoots},
		{Name: "usage", Tables: []string{"usage_desktops", "usage_intervals", "usage_models"}, Fold: foldUsage()},
		{Name: "budgets", Tables: []string{"budgets"}, Fold: foldBudgets()},
		{Name: "billing", Tables: []string{"billing"}, Fold: foldBilling()},
		{Name: "sessions", Tables: []string{"sessions"}, Apply: applySessions},
		{Name: "api_keys", Tables: []string{"api_keys"}, Apply: applyAPIKeys},
		{Name: "history", Tables: []string{"history"}, Apply: applyHistory},
	}
}

// Find returns the projection of that name.
func Find(name string) (Projection, error) {
	var known []string
	for _, p := range All() {
		if p.Name == name {
			return p, nil
		}
		known = append(known, p.Name)
	}
	return Projection{}, fmt.Errorf("there is no projection %q; choose one of %s, or all", name, strings.Join(known, ", "))
}

// decode returns the domain event in e. An unknown one is an error, never skipped.
func decode(e eventstore.Event) (any, error) {
	return events.Decode(e.Stream.Aggregate, e.Type, e.Schema, e.Data)
}
