package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/billing"
)

// billingRow is a row of read.billing: the fold of one stream.
type billingRow struct {
	account string
	state   billing.State
}

func foldBilling() *Fold {
	return &Fold{Aggregate: billing.Codec.Aggregate(), Load: loadBilling, Evolve: evolveBilling, Save: saveBilling}
}

func evolveBilling(row any, e *Event) (any, error) {
	ev, err := says[billing.Event](e)
	if err != nil {
		return nil, err
	}
	r, _ := row.(billingRow)
	r = billingRow{e.Stream.ID, billing.Evolve(r.state, ev)}
	if e.mayHoldZero() && (strings.Contains(r.account, "\x00") || strings.Contains(r.json(), `\u0000`)) {
		return nil, errNotStorable
	}
	return r, nil
}

func (r billingRow) json() string {
	text, _ := json.Marshal(r.state) // structs of texts, numbers and times of four-digit years always marshal
	return string(text)
}

func loadBilling(ctx context.Context, tx pgx.Tx, ids []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT account, state FROM billing WHERE account = ANY ($1)`, ids)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, scanBilling)
	byID := make(map[string]any, len(ids))
	for _, r := range list {
		byID[r.account] = r
	}
	return byID, err
}

func scanBilling(row pgx.CollectableRow) (r billingRow, err error) {
	err = row.Scan(&r.account, &r.state)
	return r, err
}

func saveBilling(rows []any) Statement {
	type r = billingRow
	return Statement{`INSERT INTO billing (account, customer, checkout, state) SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::jsonb[])
		ON CONFLICT (account) DO UPDATE SET customer = excluded.customer, checkout = excluded.checkout, state = excluded.state`,
		[]any{
			column(rows, func(r r) string { return r.account }),
			column(rows, func(r r) string { return r.state.Customer }),
			column(rows, func(r r) bool { return r.state.Checkout != nil }),
			column(rows, r.json),
		}}
}

// Billed is an account with what the log says about its plan.
type Billed struct {
	Account string
	State   billing.State
}

// Customer returns the account of a customer at Stripe; "": none is known.
func (r *Reader) Customer(ctx context.Context, customer string) (account string, err error) {
	if customer == "" {
		return "", nil
	}
	rows, err := r.Pool.Query(ctx, `SELECT account FROM read.billing WHERE customer = $1 ORDER BY account LIMIT 1`, customer)
	if err != nil {
		return "", fmt.Errorf("find a customer's account: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", fmt.Errorf("find a customer's account: %w", err)
	}
	if len(found) == 0 {
		return "", nil
	}
	return found[0], nil
}

// Billed returns the accounts with anything in their billing streams whose ids are above after, by their ids.
func (r *Reader) Billed(ctx context.Context, after string, limit int) ([]Billed, error) {
	return r.billed(ctx, `SELECT account, state FROM read.billing WHERE account > $1 ORDER BY account LIMIT $2`, after, limit)
}

// CheckingOut returns the accounts with a Checkout that may still be paid, whose ids are above after, by their ids.
func (r *Reader) CheckingOut(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := r.Pool.Query(ctx, `SELECT account FROM read.billing WHERE checkout AND account > $1 ORDER BY account LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list open Checkouts: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list open Checkouts: %w", err)
	}
	return ids, nil
}

// Plans returns what the log says about the plans of accounts. An account without anything in its billing stream is left out.
func (r *Reader) Plans(ctx context.Context, accounts ...string) (map[string]billing.State, error) {
	list, err := r.billed(ctx, `SELECT account, state FROM read.billing WHERE account = ANY ($1)`, accounts)
	byID := make(map[string]billing.State, len(list))
	for _, b := range list {
		byID[b.Account] = b.State
	}
	return byID, err
}

func (r *Reader) billed(ctx context.Context, query string, args ...any) ([]Billed, error) {
	rows, err := r.Pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanBilling)
	if err != nil {
		return nil, fmt.Errorf("list plans: %w", err)
	}
	list := make([]Billed, len(found))
	for i, f := range found {
		list[i] = Billed{f.account, f.state}
	}
	return list, nil
}

// EachRunning calls do for each running instance of all accounts, by their ids, with the type by which plans are decided. It ends
// with the first error of do. Instances that begin or end to run meanwhile may be left out.
func (r *Reader) EachRunning(ctx context.Context, do func(account, id, machineType string) error) error {
	type row struct{ Account, ID, Type string }
	const limit = 1000
	for after := ""; ; {
		rows, err := r.Pool.Query(ctx, `SELECT account, id, CASE WHEN region = 'local' THEN 'local' ELSE type END FROM read.instances
			WHERE status NOT IN ('terminated', 'failed') AND status = 'running' AND id > $1 ORDER BY id LIMIT $2`, after, limit)
		if err != nil {
			return fmt.Errorf("list running instances: %w", err)
		}
		page, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
		if err != nil {
			return fmt.Errorf("list running instances: %w", err)
		}
		for _, i := range page {
			after = i.ID
			if err := do(i.Account, i.ID, i.Type); err != nil {
				return err
			}
		}
		if len(page) < limit {
			return nil
		}
	}
}
