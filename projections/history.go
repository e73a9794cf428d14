package projections

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudbot-ai/control-plane/domain/account"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/domain/audit"
	"github.com/cloudbot-ai/control-plane/domain/billing"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/session"
	"github.com/cloudbot-ai/control-plane/domain/token"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// historyRow is what read.history gets for a subject: the events that an owner may read, each with a sentence and with data. The
// data leaves out every secret, sealed value and frozen launch request.
type historyRow struct {
	owner   string // of the subject's first entry, "" while there is none
	entries []Owned
}

// foldHistory keeps read.history. Only a stream's first event names its owner; the later events go to the same account.
func foldHistory() *Fold {
	return &Fold{Key: subjectOf, Load: loadHistory, Evolve: evolveHistory, Save: saveHistory, Grows: true}
}

// subjectOf returns the subject of an event's entry.
func subjectOf(e *Event) string {
	if ev, err := e.Says(); err == nil {
		if id := aboutInstance(ev); id != "" {
			return instanceStream(id)
		}
	}
	return e.Stream.String()
}

func evolveHistory(row any, e *Event) (any, error) {
	entry, owner, err := entryOf(e)
	if err != nil || entry.Sentence == "" {
		return nil, err
	}
	r, _ := row.(historyRow)
	if owner == "" {
		owner = r.owner
	}
	if owner == "" {
		return nil, nil
	}
	if e.mayHoldZero() && strings.IndexByte(owner+entry.Subject+entry.EventID+entry.Actor+entry.Sentence, 0) >= 0 {
		return nil, errNotStorable
	}
	if r.owner == "" {
		r.owner = owner
	}
	r.entries = append(r.entries, Owned{owner, entry})
	return r, nil
}

func loadHistory(ctx context.Context, tx pgx.Tx, subjects []string) (map[string]any, error) {
	rows, err := tx.Query(ctx, `SELECT s.subject, h.account FROM unnest($1::text[]) AS s (subject)
		CROSS JOIN LATERAL (SELECT account FROM history WHERE subject = s.subject ORDER BY position LIMIT 1) AS h`, subjects)
	if err != nil {
		return nil, err
	}
	bySubject := make(map[string]any, len(subjects))
	var subject, owner string
	_, err = pgx.ForEachRow(rows, []any{&subject, &owner}, func() error {
		bySubject[subject] = historyRow{owner: owner}
		return nil
	})
	return bySubject, err
}

// saveHistory adds the entries in the order of the primary key.
func saveHistory(rows []any) Statement {
	var list []any
	for _, row := range rows {
		for _, o := range row.(historyRow).entries {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b any) int {
		x, y := a.(Owned), b.(Owned)
		return cmp.Or(strings.Compare(x.Account, y.Account), cmp.Compare(x.Entry.Position, y.Entry.Position))
	})
	type o = Owned
	return Statement{`INSERT INTO history (account, position, event_id, time, type, subject, actor, sentence, data)
		SELECT account, position, event_id, time, type, subject, actor, sentence, data::json
		FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
			AS h (account, position, event_id, time, type, subject, actor, sentence, data)`,
		[]any{
			column(list, func(o o) string { return o.Account }),
			column(list, func(o o) int64 { return o.Entry.Position }),
			column(list, func(o o) string { return o.Entry.EventID }),
			column(list, func(o o) time.Time { return o.Entry.Time }),
			column(list, func(o o) string { return o.Entry.Type }),
			column(list, func(o o) string { return o.Entry.Subject }),
			column(list, func(o o) string { return o.Entry.Actor }),
			column(list, func(o o) string { return o.Entry.Sentence }),
			column(list, func(o o) string { return string(o.Entry.Data) }),
		}}
}

// entryOf returns an event's entry, and its owner if the event names it. Without a sentence, the history leaves the event out.
func entryOf(e *Event) (entry Entry, owner string, err error) {
	ev, err := e.Says()
	if err != nil {
		return Entry{}, "", err
	}
	entry = Entry{Position: e.Position, EventID: e.ID, Time: e.Time, Type: e.Type, Subject: e.Stream.String(), Actor: e.Meta.Actor}
	var data facts
	if entry.Sentence, data = phrase(ev); entry.Sentence == "" {
		return entry, "", nil
	}
	if entry.Data, err = json.Marshal(data); err != nil {
		return Entry{}, "", err
	}
	entry.Subject = subjectOf(e)
	return entry, ownerOf(e.Event, ev), nil
}

// Describe returns what an event's owner may read of it, as the history has it: a sentence and data. The sentence is empty if
// the history leaves the event out.
func Describe(e eventstore.Event) (sentence string, data json.RawMessage, err error) {
	entry, _, err := entryOf(&Event{Event: e})
	return entry.Sentence, entry.Data, err
}

func ownerOf(e eventstore.Event, ev any) string {
	switch ev := ev.(type) {
	case instance.Requested:
		return ev.Account
	case instance.TakenOver:
		return ev.Account
	case instance.Terminated:
		return ev.Account // set if an operator terminated it: the first event may be unreadable
	case session.Started:
		return ev.Account
	case apikey.Stored:
		return ev.Account
	case apikey.Removed:
		return ev.Account
	}
	switch e.Stream.Aggregate {
	case account.Codec.Aggregate(), audit.Codec.Aggregate(), billing.Codec.Aggregate(), budget.Codec.Aggregate(), token.Codec.Aggregate():
		return e.Stream.ID
	}
	return ""
}

// aboutInstance returns the instance whose history an event of another stream belongs to, "" for none.
func aboutInstance(ev any) string {
	switch ev := ev.(type) {
	case audit.KeysHandedOut:
		return ev.Instance
	case audit.DiagnosticsRead:
		return ev.Instance
	case budget.Event:
		return aboutDesktop(ev)
	}
	return ""
}

// facts is the data of an entry.
type facts map[string]any

// phrase returns the sentence and the data that the owner reads of an event. An empty sentence keeps the event
// out of the history.
func phrase(ev any) (string, facts) {
	switch ev := ev.(type) {
	case account.SignedUp:
		return either(ev.Imported, "The operator imported your account from the original control plane.", "You signed up."), facts{}
	case account.PasswordChanged:
		return "The password was changed.", facts{}
	case account.Suspended:
		if ev.Reason != "" {
			return "The operator suspended the account: " + ev.Reason, facts{"reason": ev.Reason}
		}
		return "The operator suspended the account.", facts{}
	case account.Resumed:
		return "The operator lifted the account's suspension.", facts{}
	case account.IdlePolicySet:
		return either(ev.Policy != nil, "The idle policy of your desktops was set.", "The idle policy of your desktops was removed; the default applies."), facts{"policy": ev.Policy}
	case session.Started:
		return "You logged in.", facts{"agent": ev.Agent}
	case session.Ended:
		return "A session ended: " + sessionEnds[ev.Reason] + ".", facts{"reason": ev.Reason}
	case token.Created:
		return "An API token was made.", facts{"token": ev.ID, "scopes": ev.Scopes, "desktops": ev.Desktops, "expires_at": ev.ExpiresAt}
	case token.Used:
		return "An API token was used, for the first time in a day.", facts{"token": ev.ID}
	case token.Revoked:
		return either(ev.Reason == token.Restored, "An API token was revoked: the service was restored from a backup.", "An API token was revoked."),
			facts{"token": ev.ID, "reason": ev.Reason}
	case apikey.Stored:
		return fmt.Sprintf("The key for %s was stored, ending in %s.", ev.Provider, ev.Last4), facts{"provider": ev.Provider, "last4": ev.Last4}
	case apikey.Removed:
		return fmt.Sprintf("The key for %s was removed.", ev.Provider), facts{"provider": ev.Provider}
	case audit.LogInFailed:
		return "A log-in failed: the password was wrong.", facts{}
	case audit.KeysHandedOut:
		return "The machine received the account's API keys.", facts{}
	case audit.DiagnosticsRead:
		return fmt.Sprintf("The machine's diagnostics were read: %s.", ev.Report), facts{"report": ev.Report}
	case instance.Event:
		return phraseInstance(ev)
	case budget.Event:
		return phraseBudget(ev)
	case billing.Event:
		return phraseBilling(ev)
	}
	return "", nil
}

var sessionEnds = map[session.Reason]string{
	session.LoggedOut:       "logged out",
	session.Revoked:         "revoked from the session list",
	session.PasswordChanged: "the password was changed",
	session.Suspended:       "the account was suspended",
	session.Restored:        "the service was restored from a backup",
	session.Reused:          "an old refresh token was used again, so someone else may have a copy",
}

func phraseInstance(ev instance.Event) (string, facts) {
	switch ev := ev.(type) {
	case instance.Requested:
		return "The desktop was requested.", facts{"instance_type": ev.Type, "region": ev.Region}
	case instance.TakenOver:
		return "The operator imported the desktop from the original control plane, without a guest.", facts{"region": ev.Region, "ec2_instance_id": ev.Machine}
	case instance.Renamed:
		return "It was renamed.", facts{}
	case instance.LaunchAttempted:
		return fmt.Sprintf("Launch attempt %d started.", ev.Attempt), facts{"attempt": ev.Attempt, "instance_type": ev.Spec.Type}
	case instance.MachineLaunched:
		return "A machine was allocated.", facts{"attempt": ev.Attempt, "ec2_instance_id": ev.Machine}
	case instance.CallRefused:
		sentence := fmt.Sprintf("The cloud refused to %s the machine: %s", ev.Call, ev.Reason)
		switch {
		case ev.Undone:
			sentence = "The start did not last: " + ev.Reason
		case ev.Code == instance.CodeInterrupted || ev.Code == instance.CodeCancelled:
			sentence = ev.Reason
		}
		return sentence,
			facts{"call": ev.Call, "code": ev.Code, "reason": ev.Reason, "tries": ev.Tries, "verdict": ev.Verdict, "retry_at": ev.RetryAt}
	case instance.CallAccepted:
		return fmt.Sprintf("The cloud accepted the request to %s the machine.", ev.Call), facts{"call": ev.Call}
	case instance.LaunchAbandoned:
		return "The launch was given up: " + ev.Reason, facts{"code": ev.Code, "reason": ev.Reason}
	case instance.MachineRunning:
		return "The machine is running.", facts{"public_ip": ev.Address}
	case instance.AddressChanged:
		return "The machine's address changed.", facts{"public_ip": ev.Address}
	case instance.GuestEnrolled:
		return "The machine proved its identity.", facts{}
	case instance.EnrolmentEnded:
		return "The service was restored from a backup; its operator must readmit the machine before you can use it.", facts{}
	case instance.EnrolmentReopened:
		return "The operator readmitted the machine.", facts{}
	case instance.PhaseReached:
		return phaseSentences[ev.Phase], facts{"phase": ev.Phase, "detail": ev.Detail}
	case instance.VersionsReported:
		return versionsSentence(ev.Versions), facts{"versions": ev.Versions}
	case instance.BootStalled:
		return ev.Reason, facts{"phase": ev.Phase, "reason": ev.Reason}
	case instance.StopRequested:
		if ev.Cause != "" {
			return phraseStop(ev)
		}
		return either(ev.Outside, "The machine is being stopped from outside.", "A stop was requested."), facts{}
	case instance.StartRequested:
		if ev.Cause != "" {
			return "The control plane starts the desktop. " + ev.Why, facts{"cause": ev.Cause, "why": ev.Why}
		}
		return "A start was requested.", facts{}
	case instance.TerminationRequested:
		return "Termination was requested.", facts{}
	case instance.MachineStopped:
		return either(ev.Asked, "The machine stopped.", "The machine was stopped from outside."), facts{"asked": ev.Asked}
	case instance.MachineMissed:
		return "The cloud doesn't list the machine; checking again.", facts{}
	case instance.MachineFound:
		return "The cloud lists the machine again.", facts{}
	case instance.MachineGone:
		if ev.Missing && !ev.Asked {
			return "The cloud has not listed the machine for a long time.", facts{"asked": false, "missing": true}
		}
		return either(ev.Asked, "The machine was removed.", "The machine was terminated from outside."), facts{"asked": ev.Asked}
	case instance.Terminated:
		if ev.By == instance.ByOperator {
			return "The operator terminated the desktop.", facts{"by": ev.By}
		}
		return "The desktop was terminated.", facts{}
	case instance.Failed:
		return "The desktop failed: " + ev.Reason, facts{"code": ev.Code, "reason": ev.Reason}
	}
	return phraseUse(ev)
}

var phaseSentences = map[instance.Phase]string{
	instance.PhaseBooting:    "The machine connected.",
	instance.PhaseInstalling: "The software is being installed.",
	instance.PhaseDesktop:    "The desktop is up.",
	instance.PhaseAgent:      "The agent is starting.",
	instance.PhaseReady:      "Everything is ready.",
}

func versionsSentence(versions map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		list = append(list, name+" "+versions[name])
	}
	return "The machine runs " + strings.Join(list, ", ") + "."
}

// Entry is an event as the owner may read it.
type Entry struct {
	Position int64
	EventID  string
	Time     time.Time
	Type     string // wire name
	Subject  string // "instance/01J…"
	Actor    string // the account's id, or "system"
	Sentence string // what happened, for people
	Data     json.RawMessage
}

const entryColumns = `position, event_id, time, type, subject, actor, sentence, data`

// History returns the events of one of the account's instances with a position above after, oldest first.
func (r *Reader) History(ctx context.Context, account, id string, after int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE subject = $1 AND account = $2 AND position > $3 ORDER BY position LIMIT $4`, instanceStream(id), account, after, limit)
}

// HistoryBefore returns the events of one of the account's instances with a position below before, newest first.
func (r *Reader) HistoryBefore(ctx context.Context, account, id string, before int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE subject = $1 AND account = $2 AND position < $3 ORDER BY position DESC LIMIT $4`, instanceStream(id), account, before, limit)
}

// AccountHistory returns the account's events that are about none of its instances, with a position
// above after, oldest first.
func (r *Reader) AccountHistory(ctx context.Context, account string, after int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE account = $1 AND position > $2 AND subject NOT LIKE 'instance/%' ORDER BY position LIMIT $3`, account, after, limit)
}

// AccountHistoryBefore is AccountHistory for positions below before, newest first.
func (r *Reader) AccountHistoryBefore(ctx context.Context, account string, before int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE account = $1 AND position < $2 AND subject NOT LIKE 'instance/%' ORDER BY position DESC LIMIT $3`, account, before, limit)
}

// Since returns the account's events with a position above after, oldest first.
func (r *Reader) Since(ctx context.Context, account string, after int64, limit int) ([]Entry, error) {
	return r.entries(ctx, `SELECT `+entryColumns+` FROM read.history
		WHERE account = $1 AND position > $2 ORDER BY position LIMIT $3`, account, after, limit)
}

func (r *Reader) entries(ctx context.Context, query string, args ...any) ([]Entry, error) {
	rows, err := r.Pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		err = row.Scan(&e.Position, &e.EventID, &e.Time, &e.Type, &e.Subject, &e.Actor, &e.Sentence, &e.Data)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	return list, nil
}
