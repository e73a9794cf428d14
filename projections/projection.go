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
)

// Projection turns events into rows.
type Projection struct {
	Name   string   // of its checkpoint
	Tables []string // in schema read, without the schema
	Fold   *Fold
}

// Statement is one SQL statement with its arguments. It names tables without a schema: a rebuild fills others.
type Statement struct {
	SQL  string
	Args []any
}

// All returns the projections.
func All() []Projection {
	return []Projection{
		{Name: "accounts", Tables: []string{"accounts"}, Fold: foldAccounts()},
		{Name: "instances", Tables: []string{"instances"}, Fold: foldInstances()},
		{Name: "idle", Tables: []string{"idle"}, Fold: foldIdle()},
		{Name: "boots", Tables: []string{"boots"}, Fold: foldBoots()},
		{Name: "usage", Tables: []string{"usage_desktops", "usage_intervals", "usage_models"}, Fold: foldUsage()},
		{Name: "budgets", Tables: []string{"budgets"}, Fold: foldBudgets()},
		{Name: "billing", Tables: []string{"billing"}, Fold: foldBilling()},
		{Name: "sessions", Tables: []string{"sessions"}, Fold: foldSessions()},
		{Name: "api_keys", Tables: []string{"api_keys"}, Fold: foldAPIKeys()},
		{Name: "history", Tables: []string{"history"}, Fold: foldHistory()},
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
