package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/cloudbot-ai/control-plane/domain/events"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/eventstore/postgres"
)

// aggregates returns the names of the aggregates that have streams, sorted.
func aggregates() (names []string) {
	for _, c := range events.All() {
		names = append(names, c.Aggregate())
	}
	slices.Sort(names)
	return names
}

// filter selects the events to show. Empty fields match everything.
type filter struct {
	aggregate, id, typ string
	since, until       time.Time
	after              int64
	limit              int64
}

func eventsCmd() *cobra.Command {
	var f filter
	var follow bool
	var since, until string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show, export or follow the log as JSON lines",
		Long: `Shows the events of the log in order, one per line, as JSON. Data is shown as it was
appended; personal data and keys in it are encrypted. An event that cannot be read is
shown as far as possible, with its damage.`,
		Example: `  cloudbot events --aggregate instance --id 01J…        the history of one desktop
  cloudbot events --type 'session.*' --since 1h -f       log-ins as they happen
  cloudbot events > log.jsonl                            everything`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.since, err = moment(since); err != nil {
				return err
			}
			if f.until, err = moment(until); err != nil {
				return err
			}
			if f.aggregate != "" && !slices.Contains(aggregates(), f.aggregate) {
				return fmt.Errorf("--aggregate %q: unknown aggregate; choose one of %s", f.aggregate, strings.Join(aggregates(), ", "))
			}
			if _, err := path.Match(f.typ, ""); err != nil {
				return fmt.Errorf("--type %q: %w", f.typ, err)
			}
			return tool(cmd.Context(), func(ctx context.Context, _ *pgxpool.Pool, store *postgres.Store) error {
				return showEvents(ctx, store, f, follow, cmd.OutOrStdout())
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.aggregate, "aggregate", "", "only streams of this aggregate: "+strings.Join(aggregates(), ", "))
	flags.StringVar(&f.id, "id", "", "only the stream with this id")
	flags.StringVar(&f.typ, "type", "", "only events of this type; * matches any letters: 'instance.*'")
	flags.StringVar(&since, "since", "", "only events since this time: RFC 3339, or a duration before now (90m)")
	flags.StringVar(&until, "until", "", "only events before this time, given as for --since")
	flags.Int64Var(&f.after, "after", 0, "only events with a position above this")
	flags.Int64VarP(&f.limit, "limit", "n", 0, "stop after this many events; 0: no limit")
	flags.BoolVarP(&follow, "follow", "f", false, "continue with new events as they are appended")
	return cmd
}

// moment reads a time: RFC 3339, or a duration before now.
func moment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is not a time; use RFC 3339 (2026-11-22T10:00:00Z) or a duration (90m)", text)
	}
	return t, nil
}

func (f filter) matches(e eventstore.Event) bool {
	typ := true
	if f.typ != "" {
		typ, _ = path.Match(f.typ, e.Type)
	}
	return typ && (f.aggregate == "" || f.aggregate == e.Stream.Aggregate) && (f.id == "" || f.id == e.Stream.ID) &&
		(f.since.IsZero() || !e.Time.Before(f.since)) && (f.until.IsZero() || e.Time.Before(f.until))
}

// line is an event as the command shows it.
type line struct {
	Position int64               `json:"position"`
	Time     time.Time           `json:"time"`
	Stream   string              `json:"stream"`
	Version  int64               `json:"version"`
	Type     string              `json:"type"`
	Schema   int                 `json:"schema"`
	ID       string              `json:"id"`
	Data     json.RawMessage     `json:"data"`
	Meta     eventstore.Metadata `json:"meta"`
	Damage   string              `json:"damage,omitempty"` // why it cannot be read; data that is not JSON is shown as a string
}

func lineOf(e eventstore.Event) line {
	l := line{e.Position, e.Time, e.Stream.String(), e.Version, e.Type, e.Schema, e.ID, e.Data, e.Meta, ""}
	if e.Damage != nil {
		l.Damage = e.Damage.Error()
	}
	if !json.Valid(e.Data) {
		l.Damage = cmp.Or(l.Damage, "data is not JSON")
		l.Data, _ = json.Marshal(string(e.Data))
	}
	return l
}

func showEvents(ctx context.Context, store eventstore.Store, f filter, follow bool, w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	notifications := store.Notifications(ctx)
	poll := time.NewTicker(time.Second)
	defer poll.Stop()
	for shown, at := int64(0), f.after; ; {
		for e, err := range store.ReadAll(ctx, at) {
			if err != nil {
				return err
			}
			at = e.Position
			if !f.matches(e) {
				continue
			}
			if err := enc.Encode(lineOf(e)); err != nil {
				return err
			}
			if shown++; shown == f.limit {
				return out.Flush()
			}
		}
		if err := out.Flush(); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-notifications:
		case <-poll.C:
		}
	}
}
