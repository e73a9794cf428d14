// Package agentconfig writes our part of OpenClaw's configuration file: the model that fits the API keys, and what the
// agent needs to work on the desktop.
//
// The one thing to know: the file belongs to the user and the agent. We own single settings in it, and only as long as
// they hold what we wrote last, which a second file records. A setting that anybody changed is left alone, and one that
// is missing is written again. Merge is a pure function; Write applies it to a home folder.
package agentconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cloudbot-ai/control-plane/guest/webgl"
)

// Facts are what the settings depend on.
type Facts struct {
	Keys      map[string]string // API keys by environment name
	Workspace string            // folder of the agent's files; "": OpenClaw's own choice
	Screen    bool              // the gateway has the X display that the user sees
	Sudo      bool              // its user may become root
}

// Paths of settings, joined by dots.
const (
	modelPath = "agents.defaults.model.primary"
	ownerPath = "commands.ownerAllowFrom"
	denyPath  = "tools.deny"

	browserPath = "browser.extraArgs"

	computerPath = "plugins.entries.cua-computer.enabled"
)

// owner is the client id with which the user's browser reaches the gateway. OpenClaw gives its computer tool only to
// owners.
const owner = "gateway-client"

// denied lists the tools with which an owner's chat could administer the gateway, or reach other devices and chats.
var denied = []string{
	"gateway", "plugins", "openclaw", "nodes", "mobile_ui", "portal", "conversations_list", "conversations_send", "conversations_turn",
}

// settings returns our settings by path. A list holds the entries that we add to the user's own.
func (f Facts) settings() map[string]any {
	s := unpaid()
	if f.Workspace != "" {
		s["agents.defaults.workspace"] = f.Workspace
	}
	if m := Model(f.Keys); m != "" {
		s[modelPath] = m
	}
	if f.Keys["OPENROUTER_API_KEY"] != "" && f.Keys["PERPLEXITY_API_KEY"] == "" {
		// With this key OpenClaw installs a paid search from npm at its start, and is not ready before.
		s["plugins.entries.perplexity.enabled"] = false
	}
	if f.Screen {
		s[computerPath] = true
		s[ownerPath] = []any{owner}
		s[denyPath] = entries(denied)
		s[browserPath] = []any{webgl.Flag}
	}
	return s
}

// unpaid returns the settings without which OpenClaw calls paid models on its own: a turn of the user makes the calls that
// its answer needs, and an idle machine makes none.
func unpaid() map[string]any {
	return map[string]any{
		"agents.defaults.heartbeat.every":                     "0m",
		"agents.defaults.utilityModel":                        "",     // a recap before and after each turn
		"memory.search.provider":                              "none", // embeddings of memory files with an OpenAI key; keywords still find them
		"plugins.entries.memory-core.config.dreaming.enabled": false,  // each night
		"skills.workshop.autonomous.mode":                     "off",  // a review after a long turn, and each week
	}
}

func entries(list []string) []any {
	all := make([]any, len(list))
	for i, e := range list {
		all[i] = e
	}
	return all
}

// ErrNotJSON says that the file is not plain JSON, such as JSON with comments, and so was left alone.
var ErrNotJSON = errors.New("OpenClaw's configuration is not plain JSON")

// Merge returns the file with our settings, and the record of them for the next Merge. old and record are the contents
// of both files; nil: there is none. The file's text stays the same if its contents do.
func Merge(old, record []byte, f Facts) (file, newRecord []byte, err error) {
	doc, last := map[string]any{}, map[string]any{}
	if old != nil {
		if doc, err = parse(old); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrNotJSON, err)
		}
	}
	if record != nil {
		if last, err = parse(record); err != nil {
			last = map[string]any{} // without it, what is there is the user's
		}
	}
	want, before := f.settings(), format(doc)
	ours := map[string]any{}
	paths := slices.Collect(maps.Keys(want))
	for p := range last {
		if _, ok := want[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		if v := settle(doc, p, want[p], last[p]); v != nil {
			ours[p] = v
		}
	}
	closeAdministration(doc, ours)
	file = old
	if after := format(doc); old == nil || !bytes.Equal(before, after) {
		file = after
	}
	return file, format(ours), nil
}

// State is what a configuration gives the agent.
type State struct {
	Model string // the default model; "": none
	Sees  bool   // it may look at the screen and use it
}

func stateOf(file []byte, f Facts) (s State) {
	doc, err := parse(file)
	if err != nil {
		return s
	}
	var ok bool
	if s.Model, ok = at(doc, modelPath).(string); !ok {
		s.Model, _ = at(doc, "agents.defaults.model").(string) // the short form
	}
	owners, _ := at(doc, ownerPath).([]any)
	enabled, _ := at(doc, computerPath).(bool)
	s.Sees = f.Screen && enabled && has(owners, owner)
	return s
}

// parse reads one JSON object and nothing after it. Numbers keep their text.
func parse(text []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	if doc == nil {
		return nil, errors.New("it is not an object")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object")
	}
	return doc, nil
}

// format returns doc as indented JSON with sorted names.
func format(doc map[string]any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(doc) // strings, numbers, lists and objects: there is nothing it refuses
	return b.Bytes()
}
