package operator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// The gateway keeps what it may do without asking in one document, with an agent's allowlist and tools. To an answer
// "allow-always" it adds an entry for each program that the command calls, with a hash of its arguments, and then a marker
// with a hash of the whole command. The command itself is in its history of approvals.

const (
	maxAllowed  = 200     // entries that are listed
	maxShown    = 2 << 10 // bytes of a command that is listed
	maxPrograms = 20      // of one entry
	removeTries = 3       // if the gateway changes the document meanwhile
	markerStart = "=node-command:"
)

var (
	errNoEntry  = errors.New("unknown entry")
	errDocument = errors.New("the agent keeps its permissions in a form that is not known here")
)

// allowance is one entry of the list, and where the document has it.
type allowance struct {
	wire.AllowedEntry
	marker string           // hash of the command, as the document has it
	of     string           // the array: "allowlist" or "mcpTools"
	at     map[int]struct{} // its elements there
}

// document is what exec.approvals.get answers. All that is not removed stays as it is.
type document struct {
	hash   string
	file   map[string]json.RawMessage
	agents map[string]map[string]json.RawMessage
}

// allowed carries out AllowedList and AllowedRemove.
func (o *Operator) allowed(ctx context.Context, r wire.OperatorRequest) wire.OperatorLine {
	line := wire.OperatorLine{ID: r.ID}
	var p struct {
		ID string `json:"id"`
	}
	var none struct{}
	var err error
	switch {
	case r.Method == wire.AllowedList && (len(r.Params) == 0 || strict(r.Params, &none) == nil):
	case r.Method == wire.AllowedRemove && strict(r.Params, &p) == nil && p.ID != "" && len(p.ID) <= maxID:
		err = o.disallow(ctx, p.ID)
	default:
		err = errParams
	}
	var list wire.Allowed
	if err == nil {
		list, err = o.listAllowed(ctx)
	}
	if err == nil {
		line.Payload, err = json.Marshal(list)
	}
	switch refused, asGateway := errors.AsType[*refusal](err); {
	case err == nil:
		line.OK = true
	case asGateway:
		line.Error = failure("INVALID_REQUEST", "The agent refused: "+failureOf(refused.raw), false)
	case errors.Is(err, errParams), errors.Is(err, errNoEntry), errors.Is(err, errDocument):
		line.Error = failure("INVALID_REQUEST", err.Error(), false)
	default:
		line.Error = failure("UNAVAILABLE", awayText, true)
	}
	return line
}

// refusal is an answer of the gateway that is not ok.
type refusal struct{ raw json.RawMessage }

func (r *refusal) Error() string { return failureOf(r.raw) }

// get asks the gateway and decodes its answer.
func (o *Operator) get(ctx context.Context, method string, params, v any) error {
	a, err := o.call(ctx, method, params)
	if err != nil {
		return err
	}
	if !a.ok {
		return &refusal{a.failure}
	}
	if json.Unmarshal(a.payload, v) != nil {
		return errDocument
	}
	return nil
}

func (o *Operator) document(ctx context.Context) (document, error) {
	var raw struct {
		Hash string
		File map[string]json.RawMessage
	}
	if err := o.get(ctx, "exec.approvals.get", struct{}{}, &raw); err != nil {
		return document{}, err
	}
	d := document{hash: raw.Hash, file: raw.File}
	if agents := d.file["agents"]; agents != nil && json.Unmarshal(agents, &d.agents) != nil {
		return document{}, errDocument
	}
	return d, nil
}

// allowances reads the document.
func (d document) allowances() []*allowance {
	var all []*allowance
	for _, agent := range slices.Sorted(maps.Keys(d.agents)) {
		all = append(all, commandsOf(agent, d.agents[agent]["allowlist"])...)
		all = append(all, toolsOf(agent, d.agents[agent]["mcpTools"])...)
	}
	return all
}

func commandsOf(agent string, raw json.RawMessage) []*allowance {
	var list []json.RawMessage
	_ = json.Unmarshal(raw, &list)
	var all []*allowance
	var open *allowance // programs whose marker has not come yet
	for i, raw := range list {
		var e struct {
			Pattern, ArgPattern, Source string
			LastUsedAt                  int64
		}
		if json.Unmarshal(raw, &e) != nil {
			_ = json.Unmarshal(raw, &e.Pattern) // an entry may be a mere pattern
		}
		marker, marks := strings.CutPrefix(e.Pattern, markerStart)
		generated := e.Source == "allow-always"
		a := open
		if a == nil || !generated {
			a = &allowance{AllowedEntry: wire.AllowedEntry{Agent: agent}, of: "allowlist", at: map[int]struct{}{}}
			all = append(all, a)
		}
		a.at[i] = struct{}{}
		a.ID = entryID(a.ID, agent, e.Pattern, e.ArgPattern, e.Source)
		a.UsedAt = max(a.UsedAt, e.LastUsedAt)
		if marks && generated {
			a.marker, open = marker, nil
			continue
		}
		if len(a.Programs) < maxPrograms && !slices.Contains(a.Programs, clip(e.Pattern)) {
			a.Programs = append(a.Programs, clip(e.Pattern))
		}
		if generated {
			open = a
		} else {
			a.Any = e.ArgPattern == ""
		}
	}
	return all
}

func toolsOf(agent string, raw json.RawMessage) []*allowance {
	var list []struct {
		Server, Tool        string
		AddedAt, LastUsedAt int64
	}
	_ = json.Unmarshal(raw, &list)
	var all []*allowance
	for i, e := range list {
		all = append(all, &allowance{of: "mcpTools", at: map[int]struct{}{i: {}}, AllowedEntry: wire.AllowedEntry{
			ID: entryID("", agent, e.Server, e.Tool, "tool"), Agent: agent, Server: clip(e.Server), Tool: clip(e.Tool), Any: true, UsedAt: max(e.AddedAt, e.LastUsedAt),
		}})
	}
	return all
}

// entryID names an entry by what it allows, together with the entries before it.
func entryID(before string, parts ...string) string {
	b, _ := json.Marshal(append([]string{before}, parts...))
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

func clip(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxShown)], "") }

// listAllowed returns the list with the commands that the gateway's history still has.
func (o *Operator) listAllowed(ctx context.Context) (wire.Allowed, error) {
	d, err := o.document(ctx)
	if err != nil {
		return wire.Allowed{}, err
	}
	all := d.allowances()
	if slices.ContainsFunc(all, func(a *allowance) bool { return a.marker != "" }) {
		texts := o.commandTexts(ctx)
		for _, a := range all {
			a.Command = clip(texts[a.marker])
		}
	}
	list := wire.Allowed{Entries: []wire.AllowedEntry{}}
	size := 0
	for _, a := range all {
		b, err := json.Marshal(a.AllowedEntry)
		if err != nil {
			return list, err
		}
		if size += len(b) + 1; size > maxList-1<<10 || len(list.Entries) >= maxAllowed {
			list.More = len(all) - len(list.Entries)
			break
		}
		list.Entries = append(list.Entries, a.AllowedEntry)
	}
	return list, nil
}

// commandTexts returns the commands of answered approvals by their markers' hashes; none, if the gateway keeps none.
func (o *Operator) commandTexts(ctx context.Context) map[string]string {
	var p struct {
		Items []struct {
			Decision     string
			Presentation struct{ CommandText string }
		}
	}
	texts := map[string]string{}
	if err := o.get(ctx, "approval.history", struct{}{}, &p); err != nil {
		o.log.Debug("the agent did not list its approvals", "err", err)
		return texts
	}
	for _, i := range p.Items {
		text := strings.TrimSpace(i.Presentation.CommandText)
		sum := sha256.Sum256([]byte(text))
		if i.Decision == "allow-always" && text != "" {
			texts[hex.EncodeToString(sum[:])[:16]] = text
		}
	}
	return texts
}

// disallow removes one entry. The gateway compares the document's hash, so no other change is undone.
func (o *Operator) disallow(ctx context.Context, id string) error {
	var err error
	for range removeTries {
		var d document
		if d, err = o.document(ctx); err != nil {
			return err
		}
		if d.hash == "" { // the gateway would overwrite any other change
			return errDocument
		}
		all := d.allowances()
		i := slices.IndexFunc(all, func(a *allowance) bool { return a.ID == id })
		if i < 0 {
			return errNoEntry
		}
		var file json.RawMessage
		if file, err = d.without(all[i]); err != nil {
			return errDocument
		}
		var after json.RawMessage
		err = o.get(ctx, "exec.approvals.set", map[string]any{"file": file, "baseHash": d.hash}, &after)
		if _, refused := errors.AsType[*refusal](err); !refused {
			return err
		}
	}
	return err
}

// without returns the document's file without the entry.
func (d document) without(a *allowance) (json.RawMessage, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(d.agents[a.Agent][a.of], &list); err != nil {
		return nil, err
	}
	left := []json.RawMessage{}
	for i, e := range list {
		if _, gone := a.at[i]; !gone {
			left = append(left, e)
		}
	}
	agent := maps.Clone(d.agents[a.Agent])
	agents, file := maps.Clone(d.agents), maps.Clone(d.file)
	var err error
	if agent[a.of], err = json.Marshal(left); err != nil {
		return nil, err
	}
	agents[a.Agent] = agent
	if file["agents"], err = json.Marshal(agents); err != nil {
		return nil, err
	}
	return json.Marshal(file)
}
