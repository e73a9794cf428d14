// Package install turns a bare Debian or Ubuntu into a CloudBot machine: an ordinary user, a desktop, Node, OpenClaw, and
// the programs that users expect. The same steps bake an image.
//
// The one thing to know: each completed step leaves a stamp, so a second boot, or a machine from a baked image, skips
// it; and only the steps marked vital can delay the machine.
package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// User is the user of desktop and agent, and Home is that user's home folder.
const (
	User = "cloudbot"
	Home = home
)

// Config says what to install, and from where.
type Config struct {
	ControlPlaneURL string            // its /assets/ are tried first
	OpenClawURL     string            // OpenClaw's package if /assets/ has none, https; "": npm, at OpenClawVersion
	Pins            map[string]string // sha256 by asset, from any source; others are checked against the sum published beside them in /assets/
	Apps            []string          // of browser, editor, office; nil: all
	NoAgent         bool              // do not install Node and OpenClaw
	NoSudo          bool              // the user cannot become root
	Logger          *slog.Logger
	Output          io.Writer // of the programs; nil: discarded

	root   string                                           // in place of /; "": /
	run    func(ctx context.Context, c Command) error       // nil: as processes
	client *http.Client                                     // nil: follows redirects, except from https to http
	sleep  func(ctx context.Context, d time.Duration) error // nil: retry.Sleep
}

// Milestone is a point between steps that the guest waits for.
type Milestone string

// What can be started once a milestone is reached.
const (
	Desktop  Milestone = "desktop"  // X, XFCE and VNC
	Agent    Milestone = "agent"    // OpenClaw
	Complete Milestone = "complete" // all steps were tried
)

// Step is one part of the installation.
type Step struct {
	Name     string        // in the stamp, never changed
	Title    string        // "Installing the desktop"
	Revision int           // raise it to repeat the step on existing machines
	Vital    bool          // retried until it works; other steps are tried twice
	Usual    time.Duration // after that a warning is logged; a try ends after four times that
	Then     Milestone     // reached with this step; "": none
	do       func(ctx context.Context, i *Installer) (note string, err error)
	still    func(i *Installer) bool // reports whether a done step is to be kept; nil: always
}

// has reports whether a step is done and still has its effect.
func (i *Installer) has(s Step) bool { return i.stamp.has(s) && (s.still == nil || s.still(i)) }

// Progress is the progress of the installation.
type Progress struct {
	Step    string
	Detail  string // a sentence
	Percent int    // of all steps
}

// Installer runs the steps.
type Installer struct {
	c   Config
	log *slog.Logger
	facts
	stamp   stamp
	fresh   bool              // the package lists were updated in this run
	waiting func(what string) // reports what delays the current step
}

// New returns an installer, and reads which steps are done.
func New(c Config) (*Installer, error) {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if c.Output == nil {
		c.Output = io.Discard
	}
	if c.client == nil {
		c.client = &http.Client{Timeout: 10 * time.Minute, CheckRedirect: noDowngrade}
	}
	if c.sleep == nil {
		c.sleep = retry.Sleep
	}
	i := &Installer{c: c, log: c.Logger, waiting: func(string) {}}
	if i.c.run == nil {
		i.c.run = i.execute
	}
	i.facts = i.system()
	return i, i.stamp.read(i.path(stampFile))
}

// Done reports whether everything up to the milestone is installed.
func (i *Installer) Done(m Milestone) bool {
	for _, s := range i.Steps() {
		if !i.has(s) {
			return false
		}
		if s.Then == m {
			return true
		}
	}
	return true
}

// Run runs the steps that are not done, in order. It returns ctx's error, or the errors of steps that are not vital: the
// next boot retries those.
func (i *Installer) Run(ctx context.Context, report func(Progress), reached func(Milestone)) error {
	steps := i.Steps()
	var all error
	for n, s := range steps {
		if !i.has(s) {
			say := func(detail string) { report(Progress{s.Name, detail, 100 * n / len(steps)}) }
			if err := i.try(ctx, s, say); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				all = errors.Join(all, fmt.Errorf("%s: %w", s.Name, err))
			}
		}
		if s.Then != "" {
			reached(s.Then)
		}
	}
	reached(Complete)
	return all
}

// Limits of a step that is not vital, after which the machine continues without it.
const (
	optionalTries = 2
	optionalWaits = 3 // waits for the package system, of lockPatience each
)

// try runs one step until it works; a step that is not vital may fail twice. A busy package system does not count as a
// failure.
func (i *Installer) try(ctx context.Context, s Step, say func(string)) error {
	backoff := retry.Backoff{First: 5 * time.Second, Max: 2 * time.Minute}
	failed, waited := 0, 0
	for {
		say(s.Title + ".")
		i.log.Info("step started", "step", s.Name, "try", failed+1)
		began := time.Now()
		note, err := i.once(ctx, s, say)
		took := time.Since(began).Round(100 * time.Millisecond)
		switch {
		case err == nil:
			i.log.Info("step installed", "step", s.Name, "took", took, "note", note)
			return i.stamp.add(s, note)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errLocked):
			waited++
		default:
			failed++
		}
		if !s.Vital && (failed >= optionalTries || waited >= optionalWaits) {
			i.log.Warn("installation failed, continuing without it", "step", s.Name, "err", err)
			return err
		}
		pause := backoff.Next()
		i.log.Warn("installation failed, will retry", "step", s.Name, "took", took, "err", err, "again_in", pause)
		say(s.Title + " failed; retrying.")
		_ = i.c.sleep(ctx, pause)
	}
}

// once runs a step. If it exceeds its usual time, that is only reported.
func (i *Installer) once(ctx context.Context, s Step, say func(string)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*s.Usual)
	defer cancel()
	i.waiting = func(what string) { say(s.Title + ": " + what + ".") }
	slow := time.AfterFunc(s.Usual, func() {
		i.log.Warn("installation slower than usual", "step", s.Name, "usual", s.Usual)
		say(s.Title + " is taking longer than usual.")
	})
	defer slow.Stop()
	return s.do(ctx, i)
}
