package guest

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/guest/x11"
)

// diagnostics serves the owner's diagnostic requests over the tunnel; every answer is redacted.
func (g *Guest) diagnostics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, g.redact.Clean(g.lines.Text())) // a second time: a key may be newer than the line
	})
	mux.HandleFunc("GET "+wire.FollowPath, g.follow)
	mux.HandleFunc("GET /check", func(w http.ResponseWriter, r *http.Request) { g.answer(w, g.check(r.Context())) })
	mux.HandleFunc("GET /debug", func(w http.ResponseWriter, r *http.Request) { g.answer(w, g.debug(r.Context())) })
	mux.HandleFunc("GET /testapi", func(w http.ResponseWriter, r *http.Request) { g.answer(w, g.testAPI(r.Context())) })
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		MaxHeaderBytes: 8 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.Serve(g.http)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (g *Guest) answer(w http.ResponseWriter, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "the report cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, g.redact.Clean(string(b))+"\n")
}

// tools lists the programs of desktop and agent, and the arguments with which each prints its version.
var tools = []struct {
	name string
	args []string // none: the program has no harmless way to print it
}{
	{"Xvfb", nil}, {"Xvnc", []string{"-version"}}, {"x11vnc", []string{"-version"}}, {"openbox", []string{"--version"}},
	{"xterm", []string{"-version"}}, {"startxfce4", nil}, {"node", []string{"--version"}}, {"openclaw", []string{"--version"}},
}

type tool struct {
	Name    string `json:"name"`
	Path    string `json:"path,omitempty"` // "": not installed
	Version string `json:"version,omitempty"`
}

func (g *Guest) check(ctx context.Context) map[string]any {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	found := make([]tool, 0, len(tools))
	for _, t := range tools {
		path, _ := exec.LookPath(t.name)
		f := tool{Name: t.name, Path: path}
		if path != "" && t.args != nil {
			f.Version = version(ctx, path, t.args)
		}
		found = append(found, f)
	}
	report := map[string]any{
		"guest": g.version, "versions": g.versions(), "os": runtime.GOOS + "/" + runtime.GOARCH, "programs": found,
		"ports": map[string]string{"vnc": orNone(g.desktop.Addr()), "agent": orNone(g.agent.Addr())},
	}
	if g.setup != nil {
		report["installed"] = g.setup.installer.Notes()
		report["providers_without_plugin"] = g.setup.installer.Lacks()
	}
	return report
}

func orNone(addr string) string {
	if addr == "" {
		return "none: built in, or not running"
	}
	return addr
}

func version(ctx context.Context, path string, args []string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.WaitDelay = []string{"PATH=/opt/cloudbot/bin:/usr/local/bin:/usr/bin:/bin"}, time.Second
	out, _ := cmd.CombinedOutput()
	for l := range strings.Lines(string(out)) {
		if l = strings.TrimSpace(l); l != "" && !strings.Contains(l, "-WARNING **") { // of a library
			return l[:min(len(l), 120)]
		}
	}
	return "unknown"
}

// screenOf describes the desktop, with the size of its screen if its X server answers.
func (g *Guest) screenOf(ctx context.Context) map[string]any {
	about := map[string]any{"kind": g.desktop.About(), "healthy": g.desktop.Healthy()}
	shown, ok := g.desktop.(interface {
		Env() (map[string]string, <-chan struct{})
	})
	if !ok {
		return about
	}
	env, _ := shown.Env()
	if env["DISPLAY"] == "" {
		return about
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	d, err := x11.Open(ctx, env)
	if err != nil {
		return about
	}
	defer d.Close()
	if w, h, err := d.Size(); err == nil {
		about["width"], about["height"] = w, h
	}
	return about
}

func (g *Guest) debug(ctx context.Context) map[string]any {
	keys, _ := g.keys.Env()
	names := make([]string, 0, len(keys))
	for _, p := range g.probes {
		if _, ok := keys[p.env]; ok {
			names = append(names, p.env)
		}
	}
	tunnel := map[string]any{"dials": g.dials.Load(), "streams": g.streams.Load()}
	if at := g.connected.Load(); at != nil {
		tunnel["up_since"] = at.UTC().Format(time.RFC3339)
	}
	report := map[string]any{
		"instance": g.c.Instance, "boot": g.boot, "phase": g.phases.present(), "now": g.phases.detail(),
		"guest_uptime_seconds": int64(time.Since(g.started).Seconds()),
		"desktop":              g.screenOf(ctx),
		"agent":                map[string]any{"kind": g.agent.About(), "healthy": g.agent.Healthy()},
		"tunnel":               tunnel, "health": g.health(), "keys": names,
	}
	if g.setup != nil {
		report["complete"] = g.setup.complete.Load()
	}
	return report
}
