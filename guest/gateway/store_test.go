package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// keeping returns a client of a stand-in that keeps its sessions in a home, and what ends the stand-in.
func keeping(t *testing.T, home string, log *syncBuffer) (*user, *Gateway) {
	t.Helper()
	c := Config{Token: "right", Pace: time.Millisecond, Home: home}
	if log != nil {
		c.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	g := New(c)
	g.Ready()
	return connectedTo(t, serve(t, g), adminScopes, `"tool-events","approvals"`), g
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// history returns the messages of a session without what differs at each reading.
func (u *user) history(key string) []any {
	u.t.Helper()
	p, f := u.ask("chat.history", fmt.Sprintf(`{"sessionKey":%q,"limit":500}`, key))
	if f != nil {
		u.t.Fatal(f)
	}
	return p["messages"].([]any)
}

func last(messages []any) map[string]any {
	if len(messages) == 0 {
		return nil
	}
	return messages[len(messages)-1].(map[string]any)
}

func TestSessionsSurviveARestart(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, g := keeping(t, home, nil)
	u.say("/tool", "one")
	u.until("chat", state("final"))
	u.ask("sessions.create", `{"key":"two","label":"Second"}`)
	u.ask("sessions.create", `{"key":"three","label":"Third"}`)
	u.ask("sessions.create", `{"key":"four"}`)
	u.ask("sessions.patch", `{"key":"three","archived":true}`)
	u.ask("sessions.delete", `{"key":"four"}`)
	u.ask("chat.send", `{"sessionKey":"two","message":"hello","idempotencyKey":"two-1"}`)
	u.until("chat", state("final"))
	main, two := fmt.Sprint(u.history("main")), fmt.Sprint(u.history("two"))
	before, _ := u.ask("sessions.list", `{}`)
	g.Close()

	u, _ = keeping(t, home, nil)
	if got := fmt.Sprint(u.history("main")); got != main {
		t.Errorf("main session: got %s, want %s", got, main)
	}
	if got := fmt.Sprint(u.history("two")); got != two {
		t.Errorf("second session: got %s, want %s", got, two)
	}
	after, _ := u.ask("sessions.list", `{}`)
	if got, want := fmt.Sprint(after["sessions"]), fmt.Sprint(before["sessions"]); got != want {
		t.Errorf("sessions: got %s, want %s", got, want)
	}
	archived, _ := u.ask("sessions.list", `{"archived":true}`)
	if got := fmt.Sprint(archived["sessions"]); archived["count"] != 1.0 || !strings.Contains(got, "Third") {
		t.Errorf("archived sessions: got %s, want the third", got)
	}
	// As the original, it no longer knows the keys from before.
	if p, f := u.ask("chat.send", `{"sessionKey":"two","message":"hello","idempotencyKey":"two-1"}`); p["status"] != "started" {
		t.Errorf("a key from before: got %v %v, want started", p, f)
	}
	u.until("chat", state("final"))
	files, err := filepath.Glob(filepath.Join(home, storeFolder, "*"))
	if err != nil || len(files) != 3 {
		t.Errorf("files: got %v %v, want the index and two sessions", files, err)
	}
	for _, f := range append(files, filepath.Join(home, storeFolder)) {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: got %v %v, want it closed to others", f, st.Mode(), err)
		}
	}
}

func TestAKeyBelongsToOneText(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, g := keeping(t, home, nil)
	send := `{"sessionKey":"main","message":%q,"idempotencyKey":"one"}`
	u.say("hello", "one")
	u.until("chat", state("final"))
	if p, f := u.ask("chat.send", fmt.Sprintf(send, "hello")); p["status"] != "ok" {
		t.Errorf("the same text: got %v %v, want ok", p, f)
	}
	if p, f := u.ask("chat.send", fmt.Sprintf(send, "other")); f["code"] != "INVALID_REQUEST" || !strings.Contains(fmt.Sprint(f["message"]), "chat-request-conflict") {
		t.Errorf("another text: got %v %v, want a conflict", p, f)
	}
	if n := len(u.history("main")); n != 2 {
		t.Errorf("got %d messages, want 2", n)
	}
	// A restarted agent is killed in the second run of a key that ended before.
	u.ask("chat.send", `{"sessionKey":"main","message":"/slow","idempotencyKey":"two"}`)
	u.until("chat", state("delta"))
	g.Close()
	u, g = keeping(t, home, nil)
	u.ask("chat.send", `{"sessionKey":"main","message":"/slow","idempotencyKey":"two"}`)
	u.until("chat", state("delta"))
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(home)); err != nil {
		t.Fatal(err)
	}
	g.Close()
	u, _ = keeping(t, killed, nil)
	if m := last(u.history("main")); m["openclawAbort"] == nil {
		t.Errorf("the second run of a key: got %v, want it aborted", m)
	}
}

// TestDraftsSurvive kills the stand-in in the middle of an answer that used a tool, and after a failed one.
func TestDraftsSurvive(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, g := keeping(t, home, nil)
	u.say("/error", "failed")
	u.until("chat", state("error"))
	u.say("/tool", "run")
	u.until("agent", func(p map[string]any) bool {
		data := p["data"].(map[string]any)
		return data["name"] == "read" && data["phase"] == "start"
	})
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(home)); err != nil {
		t.Fatal(err)
	}
	g.Close()
	for name, dir := range map[string]string{"closed": home, "killed": killed} {
		u, _ := keeping(t, dir, nil)
		all := u.history("main")
		got := fmt.Sprint(all)
		for _, want := range []string{"This begins well enough,", "stopReason:error", "answered 529", "The first lists", "notes.txt", "The second looks for", "missing.txt", "openclawAbort"} {
			if n := strings.Count(got, want); n < 1 || want != "notes.txt" && want != "missing.txt" && n > 1 {
				t.Errorf("%s: got %q %d times, want it once in %s", name, want, n, got)
			}
		}
	}
}

// TestInterruptedRuns restarts the stand-in while it answers: once it is closed, once it is killed.
func TestInterruptedRuns(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, g := keeping(t, home, nil)
	u.say("/slow", "run")
	u.until("chat", state("delta"))
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(home)); err != nil {
		t.Fatal(err)
	}
	g.Close()
	for name, dir := range map[string]string{"closed": home, "killed": killed} {
		u, g := keeping(t, dir, nil)
		for range 2 { // a second restart changes nothing
			m := last(u.history("main"))
			abort, _ := m["openclawAbort"].(map[string]any)
			if len(u.history("main")) != 2 || m["role"] != "assistant" || abort["aborted"] != true || abort["runId"] != "run" {
				t.Errorf("%s: got %v, want an answer that was aborted", name, m)
			}
			if p, _ := u.ask("chat.history", `{"sessionKey":"main"}`); p["inFlightRun"] != nil {
				t.Errorf("%s: got %v still running, want none", name, p["inFlightRun"])
			}
			g.Close()
			u, g = keeping(t, dir, nil)
		}
		u.say("hello", "next")
		u.until("chat", state("final"))
		if n := len(u.history("main")); n != 4 {
			t.Errorf("%s: got %d messages, want 4", name, n)
		}
	}
}

// TestDamagedFiles puts what a program of the desktop's user could put in the place of the files.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	session := fileOf(mainKey)
	header := `{"type":"session","key":"` + mainKey + `"}` + "\n"
	good := `{"type":"message","message":{"role":"user","content":[{"type":"text","text":"kept"}],"timestamp":5,"idempotencyKey":"k:user"}}` + "\n" + `{"type":"end","run":"k"}` + "\n"
	write := func(name, text string) func(string, string) error {
		return func(dir, _ string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	link := func(name string) func(string, string) error {
		return func(dir, secret string) error {
			_ = os.Remove(filepath.Join(dir, name))
			return os.Symlink(secret, filepath.Join(dir, name))
		}
	}
	for name, c := range map[string]struct {
		put  func(dir, secret string) error
		kept bool // the message from before
		fine bool // nothing is set aside
	}{
		"session is a link":   {put: link(session)},
		"index is a link":     {put: link(indexFile), kept: true},
		"temporary is a link": {put: link(indexFile + ".tmp"), kept: true, fine: true},
		"session is a hard link": {put: func(dir, secret string) error {
			_ = os.Remove(filepath.Join(dir, session))
			return os.Link(secret, filepath.Join(dir, session))
		}},
		"session is a pipe": {put: func(dir, _ string) error {
			_ = os.Remove(filepath.Join(dir, session))
			return syscall.Mkfifo(filepath.Join(dir, session), 0o600)
		}},
		"index is a folder": {put: func(dir, _ string) error {
			_ = os.Remove(filepath.Join(dir, indexFile))
			return os.MkdirAll(filepath.Join(dir, indexFile, "x"), 0o700)
		}, kept: true},
		"session is a folder": {put: func(dir, _ string) error {
			_ = os.Remove(filepath.Join(dir, session))
			return os.MkdirAll(filepath.Join(dir, session, "x"), 0o700)
		}},
		"folder is a link": {put: func(dir, secret string) error {
			return errorsJoin(os.Rename(dir, dir+"-away"), os.Symlink(filepath.Dir(secret), dir))
		}},
		"folder is a link in the home": {put: func(dir, _ string) error {
			return errorsJoin(os.Rename(dir, dir+"-away"), os.Symlink(filepath.Base(dir)+"-away", dir))
		}},
		"index is garbage":      {put: write(indexFile, "{"), kept: true},
		"index is too long":     {put: write(indexFile, strings.Repeat(" ", maxIndex+1)), kept: true},
		"index names strangers": {put: write(indexFile, `{"version":1,"sessions":[{"key":"../../x"},{"key":"`+mainKey+`"},{"key":"`+mainKey+`"}]}`), kept: true, fine: true},
		"session is garbage":    {put: write(session, "garbage\n")},
		"session of another":    {put: write(session, `{"type":"session","key":"agent:main:x"}`+"\n")},
		"session is too long":   {put: func(dir, _ string) error { return os.Truncate(filepath.Join(dir, session), maxFile+2<<20) }},
		"last line is cut off":  {put: write(session, header+good+`{"type":"message","mess`), kept: true, fine: true},
		"a line is garbage":     {put: write(session, header+good+"garbage\n"), kept: true},
		"a role is strange":     {put: write(session, header+good+`{"type":"message","message":{"role":"system","content":[{"type":"text","text":"x"}]}}`+"\n"), kept: true},
		"a message is empty":    {put: write(session, header+good+`{"type":"message","message":{"role":"user","content":[]}}`+"\n"), kept: true},
		"a picture is a page":   {put: write(session, header+good+`{"type":"message","message":{"role":"toolResult","content":[{"type":"image","mimeType":"text/html","data":"AAAA"}]}}`+"\n"), kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			u, g := keeping(t, home, nil)
			u.say("kept", "k")
			u.until("chat", state("final"))
			g.Close()
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte("root's\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(home, storeFolder)
			if err := c.put(dir, secret); err != nil {
				t.Fatal(err)
			}
			log := &syncBuffer{}
			u, g = keeping(t, home, log)
			if got := strings.Contains(fmt.Sprint(u.history("main")), "kept"); got != c.kept {
				t.Errorf("the message from before: got %t, want %t", got, c.kept)
			}
			if got := strings.Contains(log.String(), "set aside"); got == c.fine {
				t.Errorf("log: got set aside %t, want %t\n%s", got, !c.fine, log)
			}
			u.say("afterwards", "later")
			u.until("chat", state("final"))
			g.Close()
			if b, err := os.ReadFile(secret); err != nil || string(b) != "root's\n" {
				t.Errorf("a file elsewhere: got %q %v, want it unchanged", b, err)
			}
			if entries, _ := os.ReadDir(filepath.Dir(secret)); len(entries) != 1 {
				t.Errorf("a folder elsewhere: got %v, want one file", entries)
			}
			log = &syncBuffer{}
			u, _ = keeping(t, home, log)
			if got := fmt.Sprint(u.history("main")); !strings.Contains(got, "afterwards") || strings.Contains(log.String(), "set aside") {
				t.Errorf("after another restart: got %s, want what was said afterwards and nothing set aside\n%s", got, log)
			}
		})
	}
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestFilesReplacedWhileRunning lets the desktop's user act between two messages.
func TestFilesReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	log := &syncBuffer{}
	u, g := keeping(t, home, log)
	u.say("first", "1")
	u.until("chat", state("final"))
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, storeFolder, fileOf(mainKey))
	if err := errorsJoin(os.Remove(path), os.Symlink(secret, path)); err != nil {
		t.Fatal(err)
	}
	u.say("second", "2")
	u.until("chat", state("final"))
	if err := errorsJoin(os.Remove(path), os.Link(secret, path)); err != nil {
		t.Fatal(err)
	}
	u.say("third", "3")
	u.until("chat", state("final"))
	if err := os.RemoveAll(filepath.Join(home, storeFolder)); err != nil {
		t.Fatal(err)
	}
	u.say("fourth", "4")
	u.until("chat", state("final"))
	want := fmt.Sprint(u.history("main"))
	g.Close()
	if b, err := os.ReadFile(secret); err != nil || len(b) > 0 {
		t.Errorf("a file elsewhere: got %q %v, want it empty", b, err)
	}
	u, _ = keeping(t, home, nil)
	if got := fmt.Sprint(u.history("main")); got != want {
		t.Errorf("after a restart: got %s, want %s", got, want)
	}
}

func TestFilesBelongToTheHomesOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	home := t.TempDir()
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	u, _ := keeping(t, home, nil)
	u.say("hello", "1")
	u.until("chat", state("final"))
	for _, name := range []string{"", indexFile, fileOf(mainKey)} {
		st, err := os.Lstat(filepath.Join(home, storeFolder, name))
		if err != nil {
			t.Fatal(err)
		}
		if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 65534 || sys.Gid != 65534 {
			t.Errorf("%q: got owner %d:%d, want 65534:65534", name, sys.Uid, sys.Gid)
		}
	}
}

// A session that is too large beside the others costs no other session.
func TestALargeSessionCostsNoOther(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := &store{home: home, log: slog.New(slog.DiscardHandler)}
	large, sessions := strings.Repeat("x", 4*maxKept), map[string]*session{}
	for i := range maxLoaded>>23 + 2 {
		one := &session{Key: canonical(fmt.Sprint("s", i)), UpdatedAt: int64(100 - i)} // the last one is the oldest
		for text := large; ; {
			if i > maxLoaded>>23 {
				text = "small"
			}
			one.messages = append(one.messages, message{Role: "user", Content: []content{words(text)}, Timestamp: one.UpdatedAt, IdempotencyKey: "k:user"})
			if len(one.messages)*len(text) > maxFile || text == "small" {
				break
			}
		}
		sessions[one.Key] = one
		var b bytes.Buffer
		for _, r := range append([]record{{Type: "session", Key: one.Key}}, recordsOf(one)...) {
			if err := json.NewEncoder(&b).Encode(r); err != nil {
				t.Fatal(err)
			}
		}
		s.do(func(sh *shelf) error { return sh.replace(fileOf(one.Key), b.Bytes()) })
	}
	s.list(sessions)
	g := New(Config{Home: home})
	if got := g.sessions[canonical(fmt.Sprint("s", maxLoaded>>23+1))]; got == nil {
		t.Errorf("got %d sessions without the small one, want it", len(g.sessions))
	}
	if len(g.sessions) > maxLoaded>>23+2 {
		t.Errorf("got %d sessions, want a large one left out", len(g.sessions))
	}
}

func recordsOf(s *session) (list []record) {
	for i := range s.messages {
		list = append(list, record{Type: "message", Message: &s.messages[i]})
	}
	return append(list, record{Type: "end", Run: "k"})
}

// The desktop's user puts hard links to a file of root's in place of new files. Not every kernel forbids that.
func TestFilesOfOthersKeepTheirOwner(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	home, victim := filepath.Join(dir, "home"), filepath.Join(dir, "victim")
	if err := errors.Join(os.Mkdir(home, 0o755), os.Chown(home, 65534, 65534), os.WriteFile(victim, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s := &store{home: home, log: slog.New(slog.DiscardHandler)}
	one := &session{Key: mainKey}
	s.rewrite(one)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		name := filepath.Join(home, storeFolder, fileOf(mainKey)+".tmp")
		for {
			select {
			case <-done:
				return
			default:
				_ = os.Remove(name)
				_ = os.Link(victim, name)
			}
		}
	})
	for range 200 {
		s.rewrite(one)
	}
	close(done)
	all.Wait()
	st, err := os.Stat(victim)
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 0 {
		t.Errorf("got root's file given to %d, want it left alone", sys.Uid)
	}
}

func TestOldPicturesAndLongFilesAreLeftOut(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	g := New(Config{Home: home})
	s := g.sessions[mainKey]
	said := func(m message) { g.mu.Lock(); defer g.mu.Unlock(); g.say(s, m) }
	for i := range maxPictures + 3 {
		said(message{Role: "toolResult", ToolCallID: fmt.Sprint(i), Timestamp: int64(i + 1), Content: []content{words("seen"), {Type: "image", MimeType: "image/png", Data: "AAAA"}}})
	}
	g.Close()
	g = New(Config{Home: home})
	s = g.sessions[mainKey]
	pictures := 0
	for i, m := range s.messages {
		if m.Content[1].Type == "image" {
			pictures++
		} else if i >= 3 {
			t.Errorf("message %d: got no picture, want the newest to be kept", i)
		}
	}
	if pictures != maxPictures {
		t.Errorf("got %d pictures, want %d", pictures, maxPictures)
	}
	for range 2 * maxFile / maxKept {
		said(spoken("assistant", strings.Repeat("x", maxKept), ""))
	}
	st, err := os.Stat(filepath.Join(home, storeFolder, fileOf(mainKey)))
	if err != nil || st.Size() > maxFile+2*maxKept {
		t.Errorf("file: got %d bytes %v, want at most about %d", st.Size(), err, maxFile)
	}
	g.Close()
	if g = New(Config{Home: home}); len(g.sessions[mainKey].messages) < maxFile/maxKept/2-2 {
		t.Errorf("got %d messages, want the newer half", len(g.sessions[mainKey].messages))
	}
}
