package agentconfig

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]Facts{
		"no-keys":     {Workspace: "/home/cloudbot/workspace"},
		"anthropic":   {Keys: map[string]string{"ANTHROPIC_API_KEY": "k"}, Workspace: "/home/cloudbot/workspace"},
		"openrouter":  {Keys: map[string]string{"OPENROUTER_API_KEY": "k"}},
		"with-screen": {Keys: map[string]string{"XAI_API_KEY": "k"}, Workspace: "/home/cloudbot/workspace", Screen: true},
	} {
		got, _, err := Merge(nil, nil, f)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(path); err != nil || string(got) != string(want) {
			t.Errorf("%s: got %v\n%s\nwant\n%s", name, err, got, want)
		}
	}
}

func TestModelFollowsTheKeys(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]string{
		"": "", "UNKNOWN_API_KEY": "", "OPENAI_API_KEY": "openai/gpt-6-sol", "GEMINI_API_KEY": "google/gemini-3.7-flash",
		"GOOGLE_API_KEY": "google/gemini-3.7-flash", "OPENROUTER_API_KEY": "openrouter/auto", "XAI_API_KEY": "xai/grok-4.7",
		"TOGETHER_API_KEY": "together/moonshotai/Kimi-K2.6", "OPENAI_API_KEY ANTHROPIC_API_KEY": "anthropic/claude-sonnet-5",
		"GROQ_API_KEY OPENROUTER_API_KEY": "openrouter/auto",
	} {
		if got := Model(keyed(keys)); got != want {
			t.Errorf("%q: got model %q, want %q", keys, got, want)
		}
	}
}

// keyed returns keys of these names.
func keyed(names string) map[string]string {
	keys := map[string]string{}
	for _, n := range strings.Fields(names) {
		keys[n] = "k"
	}
	return keys
}

// step is what happens to the file: the user replaces a part of it, then we merge.
type step struct {
	replace, by string // in the file's compact text; "": nothing
	f           Facts
	want        string // part of the compact text; "!": the text must not have it
}

func TestMergeKeepsWhatOthersChanged(t *testing.T) {
	t.Parallel()
	anthropic, openai := Facts{Keys: keyed("ANTHROPIC_API_KEY")}, Facts{Keys: keyed("OPENAI_API_KEY")}
	screen := Facts{Screen: true}
	const sonnet, sol = `"primary":"anthropic/claude-sonnet-5"`, `"primary":"openai/gpt-6-sol"`
	for name, c := range map[string]struct {
		old   string // "": no file
		steps []step
	}{
		"model follows the keys":      {"", []step{{"", "", anthropic, sonnet}, {"", "", openai, sol}, {"", "", Facts{}, `!"model"`}}},
		"chosen model stays":          {"", []step{{"", "", anthropic, sonnet}, {sonnet, `"primary":"x/y"`, openai, `"primary":"x/y"`}, {"", "", Facts{}, `"primary":"x/y"`}}},
		"the maker's model stays":     {`{"agents":{"defaults":{"model":{"primary":"fake/echo-1"}}}}`, []step{{"", "", anthropic, "fake/echo-1"}, {"", "", openai, "fake/echo-1"}}},
		"short form of a model stays": {`{"agents":{"defaults":{"model":"x/y"}}}`, []step{{"", "", anthropic, `"model":"x/y"`}, {"", "", openai, `"model":"x/y"`}}},
		"fallbacks stay":              {`{"agents":{"defaults":{"model":{"fallbacks":["x/y"]}}}}`, []step{{"", "", anthropic, sonnet}, {"", "", Facts{}, `"model":{"fallbacks":["x/y"]}`}}},
		"other settings stay":         {`{"z":1e400,"a<b":[{}]}`, []step{{"", "", anthropic, `"z":1e400`}, {"", "", anthropic, `"a<b":[{}]`}}},
		"heartbeat stays":             {"", []step{{"", "", Facts{}, `"every":"0m"`}, {`"0m"`, `"1h"`, Facts{}, `"every":"1h"`}}},
		"paid extras stay as chosen":  {"", []step{{"", "", Facts{}, `"utilityModel":""`}, {`"utilityModel":""`, `"utilityModel":"x/y"`, Facts{}, `"utilityModel":"x/y"`}, {`"mode":"off"`, `"mode":"auto"`, Facts{}, `"mode":"auto"`}}},
		"removed model comes back":    {"", []step{{"", "", anthropic, sonnet}, {sonnet, "", anthropic, sonnet}}},
		"owners are added":            {`{"commands":{"ownerAllowFrom":["me",{}]}}`, []step{{"", "", screen, `"ownerAllowFrom":["me",{},"gateway-client"]`}, {"", "", Facts{}, `"ownerAllowFrom":["me",{}]`}}},
		"a removed owner stays away":  {"", []step{{"", "", screen, `["gateway-client"]`}, {`["gateway-client"]`, `["me"]`, screen, `"ownerAllowFrom":["me"]`}}},
		"an owner is denied tools":    {"", []step{{"", "", screen, `"deny":["gateway","plugins"`}, {`"gateway",`, ``, screen, `"conversations_turn","gateway"`}}},
		"without the screen it goes":  {`{"tools":{"deny":["exec"]}}`, []step{{"", "", screen, `"cua-computer"`}, {"", "", Facts{}, `"tools":{"deny":["exec"]}`}, {"", "", Facts{}, `!cua`}, {"", "", Facts{}, `!owner`}}},
		"tools of another shape":      {`{"tools":[]}`, []step{{"", "", screen, `"tools":[]`}, {"", "", screen, "!gateway-client"}}},
	} {
		var file, record []byte
		if c.old != "" {
			file = []byte(c.old)
		}
		for n, s := range c.steps {
			if s.replace != "" {
				before := compact(t, file)
				if file = []byte(strings.Replace(before, s.replace, s.by, 1)); string(file) == before {
					t.Fatalf("%s: step %d: got %s, want %s in it", name, n, before, s.replace)
				}
			}
			var err error
			if file, record, err = Merge(file, record, s.f); err != nil {
				t.Fatalf("%s: step %d: %v", name, n, err)
			}
			got, part := compact(t, file), strings.TrimPrefix(s.want, "!")
			if strings.Contains(got, part) == strings.HasPrefix(s.want, "!") {
				t.Errorf("%s: step %d: got %s, want %s", name, n, got, s.want)
			}
			again, _, err := Merge(file, record, s.f)
			if err != nil || string(again) != string(file) {
				t.Errorf("%s: step %d: merging again: got %v %s, want no error and no change", name, n, err, again)
			}
		}
	}
}

func compact(t *testing.T, text []byte) string {
	t.Helper()
	return strings.NewReplacer("\n", "", " ", "").Replace(string(text))
}

func TestStateOfAConfiguration(t *testing.T) {
	t.Parallel()
	ours, _, err := Merge(nil, nil, Facts{Screen: true})
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]State{
		`{}`: {}, `{"agents":[]}`: {}, `{"agents":{"defaults":{"model":"x/y"}}}`: {Model: "x/y"},
		`{"agents":{"defaults":{"model":{"primary":"x/y"}}}}`: {Model: "x/y"}, `{"agents":{"defaults":{"model":{"primary":3}}}}`: {},
		string(ours): {Sees: true}, strings.Replace(string(ours), "true", "false", 1): {}, strings.Replace(string(ours), owner, "me", 1): {},
	} {
		if got := stateOf([]byte(file), Facts{Screen: true}); got != want {
			t.Errorf("%s: got %+v, want %+v", file, got, want)
		}
	}
	if stateOf(ours, Facts{}).Sees {
		t.Error("without a screen: got an agent that sees, want none")
	}
}

func TestOnlyPlainJSONIsChanged(t *testing.T) {
	t.Parallel()
	for _, old := range []string{"", "mine", "// JSON5\n{}", "{} {}", "[]", "null", `{a: 1}`} {
		if got, _, err := Merge([]byte(old), nil, Facts{}); !errors.Is(err, ErrNotJSON) {
			t.Errorf("%q: got %s %v, want ErrNotJSON", old, got, err)
		}
	}
	if got, _, err := Merge(nil, []byte(`{"tools.deny":[{}],"agents":3`), Facts{Screen: true}); err != nil || !strings.Contains(string(got), "cua-computer") {
		t.Errorf("a broken record: got %s %v, want no error and all settings", got, err)
	}
	if _, _, err := Merge([]byte(`{"tools":{"deny":[{}]}}`), []byte(`{"tools.deny":[{}],"x":{}}`), Facts{Screen: true}); err != nil {
		t.Errorf("a record of another program: got %v, want no error", err)
	}
}

func TestWriteFollowsNoLinkOutOfHome(t *testing.T) {
	t.Parallel()
	home, other := t.TempDir(), t.TempDir()
	f := Facts{Keys: keyed("XAI_API_KEY")}
	if got, ok := Read(home, false); ok {
		t.Errorf("without a file: got %+v, want none", got)
	}
	for n := range 2 {
		if got, err := Write(home, nil, f); err != nil || got.Model != "xai/grok-4.7" {
			t.Errorf("write %d: got %+v %v, want xai/grok-4.7 and no error", n, got, err)
		}
	}
	if got, ok := Read(home, false); !ok || got.Model != "xai/grok-4.7" {
		t.Errorf("read: got %+v %v, want xai/grok-4.7", got, ok)
	}
	if st, err := os.Stat(filepath.Join(home, file)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v %v, want mode 0600 and no error", st, err)
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(home, Dir)), os.Symlink(other, filepath.Join(home, Dir))); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(home, nil, f); err == nil {
		t.Error("got no error for a link out of the home folder, want one")
	}
	if found, _ := os.ReadDir(other); len(found) > 0 {
		t.Errorf("got %v in the other folder, want nothing", found)
	}
}

func TestWorkspaceIsWrittenOnce(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	file := filepath.Join(home, "workspace", "AGENTS.md")
	f := Facts{Workspace: filepath.Join(home, "workspace"), Screen: true}
	if _, err := Write(home, nil, f); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "data from strangers") || !strings.Contains(string(text), "xclip") {
		t.Errorf("got %s %v, want our instructions and no error", text, err)
	}
	for _, sudo := range []bool{true, false} {
		f.Sudo = sudo
		if _, err := Write(home, nil, f); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(file)
		if can := strings.Contains(string(text), "can become root"); can != sudo || strings.Contains(string(text), "{{") || sudo != strings.Contains(string(text), "Ask before you change the system") {
			t.Errorf("sudo %v: got %s, want it said", sudo, text)
		}
	}
	if err := os.WriteFile(file, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(home, nil, f); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(file); string(text) != "mine" {
		t.Errorf("got %q, want \"mine\"", text)
	}
	if _, err := Write(home, nil, Facts{Workspace: t.TempDir()}); err != nil {
		t.Errorf("a workspace elsewhere: got %v, want no error", err)
	}
}
