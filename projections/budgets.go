package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// budgetRow is a row of read.budgets: the fold of one stream.
type budgetRow struct {
	account string
	state   budget.State
}

func foldBudgets() *Fold {
	return &Fold{Aggregate: budget.Codec.Aggregate(), Load: loadBudgets, Evolve: evolveBudgets, Save: saveBudgets}
}

func evolveBudgets(row any, e *Event) (any, error) {
	ev, err := says[budget.Event](e)
	if err != nil {
		return nil, err
	}
	r, _ := row.(budgetRow)
	r = budgetRow{e.Stream.ID, budget.Evolve(r.state, ev)}
	if e.mayHoldZero() && (strings.Contains(r.account, "\x00") || strings.Contains(stateJSON(r.state), `\u0000`)) {
		return nil, errNotStorable
	}
	return r, nil
}

func stateJSON(s budget.State) string {
	text, _ := json.Marshal(s) // a map of texts and numbers always marshals
	return string(text)
}

func loadBudgets(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT account, state FROM budgets WHERE account = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanBudget)
	byID := make(map[string]any, len(ids))
	for _, r := range list {
		byID[r.account] = r
	}
	return byID, err
}

func scanBudget(row pgx.CollectableRow) (r budgetRow, err error) {
	err = row.Scan(&r.account, &r.state)
	return r, err
}

func saveBudgets(rows []any) Statement {
	type r = budgetRow
	return Statement{`INSERT INTO budgets (account, state, limited) SELECT * FROM unnest($1::text[], $2::jsonb[], $3::boolean[])
		ON CONFLICT (account) DO UPDATE SET state = excluded.state, limited = excluded.limited`,
		[]any{
			column(rows, func(r r) string { return r.account }),
			column(rows, func(r r) string { return stateJSON(r.state) }),
			column(rows, func(r r) bool { return r.state.Limited() }),
		}}
}

// Budget is an account's budgets.
type Budget struct {
	Account string
	State   budget.State
}

// Budgets returns the accounts that have a limit and an id above after, by their ids. The installation is none of them.
func (r *Reader) Budgets(ctx context.Context, after string, limit int) ([]Budget, error) {
	rows, err := r.Pool.Query(ctx, `SELECT account, state FROM read.budgets WHERE limited AND account > $1 AND account <> $2 ORDER BY account LIMIT $3`,
		after, budget.InstallationStream, limit)
	if err != nil {
		return nil, fmt.Errorf("list budgets: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanBudget)
	if err != nil {
		return nil, fmt.Errorf("list budgets: %w", err)
	}
	list := make([]Budget, len(found))
	for i, f := range found {
		list[i] = Budget{f.account, f.state}
	}
	return list, nil
}

// Status is how an instance is.
type Status struct {
	Account  string
	Instance string
	Status   instance.Status
}

// Statuses returns the accounts' instances that have not ended, and those of ids, also if they have.
func (r *Reader) Statuses(ctx context.Context, accounts, ids []string) ([]Status, error) {
	rows, err := r.Pool.Query(ctx, `SELECT account, id, status FROM read.instances WHERE account = ANY ($1) AND (status NOT IN ('terminated', 'failed') OR id = ANY ($2)) ORDER BY id`,
		accounts, ids)
	if err != nil {
		return nil, fmt.Errorf("list instances of budgets: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Status])
	if err != nil {
		return nil, fmt.Errorf("list instances of budgets: %w", err)
	}
	return list, nil
}

// AccountIDs returns the ids of accounts above after, in order.
func (r *Reader) AccountIDs(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := r.Pool.Query(ctx, `SELECT id FROM read.accounts WHERE id > $1 ORDER BY id LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return ids, nil
}
