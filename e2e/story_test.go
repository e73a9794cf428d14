package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestStory plays testdata/story.txt, against the server at CLOUDBOT_URL or, without it, against its own.
func TestStory(t *testing.T) {
	t.Parallel()
	base, own := os.Getenv("CLOUDBOT_URL"), (*server)(nil)
	if base == "" {
		own = newServer(t)
		own.start()
		base = own.URL
	}
	testscript.Run(t, testscript.Params{
		Files: []string{"testdata/story.txt"},
		Setup: func(env *testscript.Env) error {
			// A new address each time: the server may have played this story before.
			email := fmt.Sprintf("ada.%s@example.com", strings.ToLower(rand.Text()[:8]))
			env.Setenv("EMAIL", email)
			env.Setenv("EMAIL_SHOUTED", strings.ToUpper(email))
			env.Values["play"] = &play{client: &client{t: t, base: base}, server: own}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"api": cmdAPI, "expect": cmdExpect, "keep": cmdKeep, "field": cmdField, "count": cmdCount, "shows": cmdShows,
			"follow": cmdFollow, "boot": cmdBoot, "becomes": cmdBecomes, "desktop": cmdDesktop, "chat": cmdChat,
			"gone": cmdGone, "tells": cmdTells, "log": cmdLog,
		},
	})
}

// play is what the commands of a transcript share.
type play struct {
	*client
	server *server // nil: another process started it
	last   answer
}

func playOf(ts *testscript.TestScript, neg bool, args []string, least int) *play {
	if neg {
		ts.Fatalf("there is no ! form")
	}
	if len(args) < least {
		ts.Fatalf("needs %d arguments", least)
	}
	return ts.Value("play").(*play)
}

// api METHOD PATH [BODY] [HEADER=VALUE ...]
func cmdAPI(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	var body string
	var header []string
	for _, arg := range args[2:] {
		if name, value, ok := strings.Cut(arg, "="); ok && !strings.HasPrefix(arg, "{") {
			header = append(header, name, value)
		} else {
			body = arg
		}
	}
	a, err := p.try(args[0], args[1], body, header...)
	ts.Check(err)
	p.last = a
	ts.Logf("%d %s", a.status, clip(withoutTokens(a.body)))
}

func cmdExpect(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 1)
	if want, _ := strconv.Atoi(args[0]); p.last.status != want {
		ts.Fatalf("status %d, want %s: %s", p.last.status, args[0], withoutTokens(p.last.body))
	}
}

// keep VAR PATH: copies a field to the script's environment. Requests are sent with TOKEN.
func cmdKeep(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	value := p.last.field(args[1])
	if value == "" {
		ts.Fatalf("there is no %s in %s", args[1], withoutTokens(p.last.body))
	}
	ts.Setenv(args[0], value)
	if args[0] == "TOKEN" {
		p.token = value
	}
}

func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	if got := p.last.field(args[0]); got != args[1] {
		ts.Fatalf("%s is %q, want %q: %s", args[0], got, args[1], withoutTokens(p.last.body))
	}
}

func cmdCount(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	var body map[string]json.RawMessage
	var list []any
	ts.Check(json.Unmarshal(p.last.body, &body))
	ts.Check(json.Unmarshal(body[args[0]], &list))
	if fmt.Sprint(len(list)) != args[1] {
		ts.Fatalf("%d %s, want %s", len(list), args[0], args[1])
	}
}

// shows TEXT: the last answer contains it.
func cmdShows(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, false, args, 1)
	if strings.Contains(string(p.last.body), args[0]) == neg {
		ts.Fatalf("shows %q: %v, in %s", args[0], !neg, withoutTokens(p.last.body))
	}
}

// follow ID WITHIN PHASE ...: the phases arrive over SSE in this order.
func cmdFollow(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 3)
	within, err := time.ParseDuration(args[1])
	ts.Check(err)
	began := time.Now()
	ts.Check(p.followPhases(args[0], within, args[2:]))
	ts.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
}

// boot ID WITHIN: the machine reports its whole boot, with lines of its log. shows then searches the report.
func cmdBoot(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	within, err := time.ParseDuration(args[1])
	ts.Check(err)
	report, err := p.watchBoot(args[0], within)
	ts.Check(err)
	p.last = answer{status: 200, body: []byte(report)}
}

func cmdBecomes(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 3)
	p.awaitInstance(args[0], args[1], args[2])
}

func cmdDesktop(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 1)
	shot, err := p.screenshot(args[0])
	ts.Check(err)
	if shot.colours < 2 {
		ts.Fatalf("the desktop %q is one colour", shot.name)
	}
	ts.Logf("desktop %q, %d x %d, %d colours", shot.name, shot.width, shot.height, shot.colours)
}

func cmdChat(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	deltas, text, err := p.chat(args[0], args[1])
	ts.Check(err)
	if deltas < 2 || text == "" {
		ts.Fatalf("answer in %d parts, %q; want it streamed", deltas, text)
	}
	ts.Logf("answer in %d parts: %s", deltas, clip(text))
}

// gone ID: no process, socket, folder or row of the machine remains.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 1)
	if p.server == nil {
		return // the machine may be on another computer
	}
	await(p.t, 5*time.Second, "the machine's processes to end", func() bool { return len(p.server.leftOf(args[0])) == 0 })
}

// tells ID TYPE ...: the instance's history contains these events in this order, once that read model has caught up.
func cmdTells(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	var body struct {
		Events []struct {
			Type     string `json:"type"`
			Sentence string `json:"sentence"`
		} `json:"events"`
	}
	await(p.t, 10*time.Second, fmt.Sprint("history with ", args[1:]), func() bool {
		a, err := p.try("GET", "/api/instances/"+args[0]+"/history", "")
		body.Events = nil
		var types []string
		if err == nil && json.Unmarshal(a.body, &body) == nil {
			for _, e := range body.Events {
				types = append(types, e.Type)
			}
		}
		return missing(types, args[1:]) == ""
	})
	for _, e := range body.Events {
		ts.Logf("%-32s %s", e.Type, e.Sentence)
	}
}

// log ID TYPE ...: the log itself contains these events in this order, as `cloudbot events` shows it.
func cmdLog(ts *testscript.TestScript, neg bool, args []string) {
	p := playOf(ts, neg, args, 2)
	if p.server == nil {
		return
	}
	types := p.server.eventTypes("--aggregate", "instance", "--id", args[0])
	if w := missing(types, args[1:]); w != "" {
		ts.Fatalf("%s is missing or out of order in %v", w, types)
	}
}

// missing returns the first of want that is not in have after those before it; "" if all are.
func missing(have, want []string) string {
	for _, w := range want {
		i := slices.Index(have, w)
		if i < 0 {
			return w
		}
		have = have[i+1:]
	}
	return ""
}

// secretFields are the fields of an answer that can sign a client in. Transcripts are shown to others.
var secretFields = regexp.MustCompile(`"([a-z_]*token|ticket)":\s*"[^"]*"`)

func withoutTokens(body []byte) string {
	return secretFields.ReplaceAllString(string(body), `"$1":"…"`)
}

func TestTranscriptHasNoTokens(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		`{"access_token":"ey.a.b","token_type":"bearer","refresh_token": "ey.c"}`: `{"access_token":"…","token_type":"bearer","refresh_token":"…"}`,
		`{"ticket":"abc_-","expires_at":"2026"}`:                                  `{"ticket":"…","expires_at":"2026"}`,
		`{"device_token":"x","name":"token"}`:                                     `{"device_token":"…","name":"token"}`,
	} {
		if got := withoutTokens([]byte(given)); got != want {
			t.Errorf("%s: got %s, want %s", given, got, want)
		}
	}
}

func clip(s string) string {
	s = strings.TrimSpace(s)
	if len(s) > 300 {
		return s[:300] + " …"
	}
	return s
}
