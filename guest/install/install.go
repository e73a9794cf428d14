// Package install makes a bare Debian or Ubuntu into a CloudBot machine: an ordinary user, a desktop,
// Node, OpenClaw, and the programs people expect. The same steps bake an image.
//
// The one thing to know: each step that is done leaves a stamp, so a second boot, or a machine from
// a baked image, does nothing; and only the steps marked vital can hold the machine up.
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

// User is whom desktop and agent run as.
const User = "cloudbot"

// OpenClawVersion is what is installed where the control plane has no package of its own.
const OpenClawVersion = "2026.9.6"

// Config says what to install, and from where.
type Config struct {
	ControlPlaneURL string            // its /assets/ are asked first
	OpenClawURL     string            // OpenClaw's package where /assets/ has none, https; "": npm at OpenClawVersion
	Pins            map[string]string // sha256 by asset, wherever it comes from; one not listed is taken by the sum published beside it in /assets/
	Apps            []string          // of browser, editor, office; nil: all
	NoAgent         bool              // leave Node and OpenClaw out
	Logger          *slog.Logger
	Output          io.Writer // of the programs that are run; nil: discarded

	root   string                                           // in place of /; "": /
	run    func(ctx context.Context, c Command) error       // nil: as processes
	client *http.Client                                     // nil: one that follows redirects, but none from https to http
	sleep  func(ctx context.Context, d time.Duration) error // nil: retry.Sleep
}

// Milestones between steps that others wait for.
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
	Revision int           // raised when machines are to do it again
	Vital    bool          // tried until it works; others twice
	Usual    time.Duration // after which it is said to take long; a try is ended after four times that
	Then     Milestone     // reached with this step; "": none
	do       func(ctx context.Context, i *Installer) (note string, err error)
}

// Progress is what there is to say while installing.
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
	fresh   bool              // the package lists were read in this run
	waiting func(what string) // what holds the present step up
}

// New reads what was done before.
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

// Done tells whether all up to the milestone is installed already.
func (i *Installer) Done(m Milestone) bool {
	for _, s := range i.Steps() {
		if !i.stamp.has(s) {
			return false
		}
		if s.Then == m {
			return true
		}
	}
	return true
}

// Run does the steps that are not done, in order. It returns ctx's error, or what says that a step
// which is not vital did not work: the next boot tries that again.
func (i *Installer) Run(ctx context.Context, report func(Progress), reached func(Milestone)) error {
	steps := i.Steps()
	var all error
	for n, s := range steps {
		if !i.stamp.has(s) {
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

// What a step that is not vital has before the machine goes on without.
const (
	optionalTries = 2
	optionalWaits = 3 // for others to leave the package system alone, lockPatience each
)

// try does one step until it works; a step that is not vital may fail twice. That others used the
// package system is no failure.
func (i *Installer) try(ctx context.Context, s Step, say func(string)) error {
	backoff := retry.Backoff{First: 5 * time.Second, Max: 2 * time.Minute}
	failed, waited := 0, 0
	for {
		say(s.Title + ".")
		i.log.Info("installing", "step", s.Name, "try", failed+1)
		began := time.Now()
		note, err := i.once(ctx, s, say)
		took := time.Since(began).Round(100 * time.Millisecond)
		switch {
		case err == nil:
			i.log.Info("installed", "step", s.Name, "took", took, "note", note)
			return i.stamp.add(s, note)
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errLocked):
			waited++
		default:
			failed++
		}
		if !s.Vital && (failed >= optionalTries || waited >= optionalWaits) {
			i.log.Warn("not installed, going on without", "step", s.Name, "err", err)
			return err
		}
		pause := backoff.Next()
		i.log.Warn("installing did not work, trying again", "step", s.Name, "took", took, "err", err, "again_in", pause)
		say(s.Title + " did not work yet; trying again.")
		_ = i.c.sleep(ctx, pause)
	}
}

// once does a step; its usual time is soft: it is said and no more.
func (i *Installer) once(ctx context.Context, s Step, say func(string)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*s.Usual)
	defer cancel()
	i.waiting = func(what string) { say(s.Title + ": " + what + ".") }
	slow := time.AfterFunc(s.Usual, func() {
		i.log.Warn("installing takes longer than usual", "step", s.Name, "usual", s.Usual)
		say(s.Title + " takes longer than usual.")
	})
	defer slow.Stop()
	return s.do(ctx, i)
}
