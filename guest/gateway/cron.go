package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The schedule: jobs that run once, each as a message in a session of its own. The original has many more kinds. A job that
// was due while the stand-in was down runs soon after it is back.
const (
	jobsName   = "jobs.json"
	maxJobs    = 50
	cronPrefix = mainPrefix + "cron:"
	mainPrefix = "agent:main:"
)

type job struct {
	ID       string      `json:"id"`
	Name     string      `json:"name"`
	Enabled  bool        `json:"enabled"`
	Schedule jobSchedule `json:"schedule"`
	Payload  jobPayload  `json:"payload"`
	State    jobState    `json:"state"`
	timer    *time.Timer
}

type jobSchedule struct {
	Kind string    `json:"kind"` // "at"
	At   time.Time `json:"at"`
}

type jobPayload struct {
	Kind    string `json:"kind"` // "agentTurn"
	Message string `json:"message"`
}

type jobState struct {
	NextRunAtMs int64 `json:"nextRunAtMs,omitempty"`
	RunningAtMs int64 `json:"runningAtMs,omitempty"`
	LastRunAtMs int64 `json:"lastRunAtMs,omitempty"`
}

type keptJobs struct {
	Version int    `json:"version"`
	Jobs    []*job `json:"jobs"`
}

// cronList answers with a page of jobs, the next one first.
func cronList(c *client, r request) {
	p := struct {
		Enabled         string
		IncludeDisabled bool
		Limit, Offset   int
	}{Limit: maxJobs}
	if !params(c, r, &p) {
		return
	}
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	list := []job{}
	for _, j := range c.g.jobs {
		if j.Enabled || p.IncludeDisabled || p.Enabled == "all" {
			list = append(list, *j)
		}
	}
	slices.SortFunc(list, func(a, b job) int {
		return cmp.Or(cmp.Compare(a.State.NextRunAtMs, b.State.NextRunAtMs), cmp.Compare(a.ID, b.ID))
	})
	total := len(list)
	list = list[min(max(p.Offset, 0), total):]
	if p.Limit > 0 && len(list) > p.Limit {
		list = list[:p.Limit]
	}
	c.answer(r.ID, map[string]any{"jobs": list, "total": total, "offset": p.Offset, "limit": p.Limit, "hasMore": p.Offset+len(list) < total}, nil)
}

// cronAdd adds a job that runs once.
func cronAdd(c *client, r request) {
	var p struct {
		Name     string
		Schedule jobSchedule
		Payload  jobPayload
	}
	if !params(c, r, &p) {
		return
	}
	if p.Schedule.Kind != "at" || p.Schedule.At.IsZero() || p.Payload.Kind != "agentTurn" || p.Payload.Message == "" {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "the stand-in has jobs of the schedule at with the payload agentTurn only"})
		return
	}
	j, err := c.g.plan(p.Name, p.Payload.Message, p.Schedule.At)
	if err != nil {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: err.Error()})
		return
	}
	c.answer(r.ID, j, nil)
}

func cronRemove(c *client, r request) {
	var p struct{ ID, JobID string }
	if !params(c, r, &p) {
		return
	}
	c.g.mu.Lock()
	removed := c.g.dropJobLocked(cmp.Or(p.ID, p.JobID))
	c.g.mu.Unlock()
	c.answer(r.ID, map[string]any{"ok": true, "removed": removed}, nil)
}

// plan adds a job.
func (g *Gateway) plan(name, message string, at time.Time) (job, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return job{}, errors.New("the gateway is stopping")
	case len(g.jobs) >= maxJobs:
		return job{}, errors.New("too many jobs")
	}
	at = at.UTC().Truncate(time.Millisecond)
	j := &job{
		ID: strings.ToLower(rand.Text()), Name: clip(cmp.Or(name, "Job"), 200), Enabled: true, Schedule: jobSchedule{"at", at},
		Payload: jobPayload{"agentTurn", clip(message, maxKept)}, State: jobState{NextRunAtMs: at.UnixMilli()},
	}
	g.jobs = append(g.jobs, j)
	g.armLocked(j)
	g.jobsChangedLocked(j, "added")
	return *j, nil
}

// armLocked has the job run when it is due; g.mu is held.
func (g *Gateway) armLocked(j *job) {
	j.timer = time.AfterFunc(time.Until(j.Schedule.At), func() { g.runJob(j.ID) })
}

// dropJobLocked removes a job and reports whether there was one; g.mu is held.
func (g *Gateway) dropJobLocked(id string) bool {
	i := slices.IndexFunc(g.jobs, func(j *job) bool { return j.ID == id })
	if i < 0 {
		return false
	}
	j := g.jobs[i]
	j.timer.Stop()
	g.jobs = slices.Delete(g.jobs, i, i+1)
	g.jobsChangedLocked(j, "removed")
	return true
}

// jobsChangedLocked saves the jobs and tells all clients; g.mu is held.
func (g *Gateway) jobsChangedLocked(j *job, action string) {
	if g.store != nil {
		g.store.do(func(sh *shelf) error {
			b, err := json.Marshal(keptJobs{1, g.jobs})
			return errors.Join(err, sh.replace(jobsName, b))
		})
	}
	g.broadcastLocked("cron", map[string]any{"jobId": j.ID, "action": action, "nextRunAtMs": j.State.NextRunAtMs}, func(c *client) bool { return c.holds("operator.read") })
}

// restoreJobs reads the jobs from before a restart.
func (g *Gateway) restoreJobs(sh *shelf) {
	b := sh.read(jobsName, maxKeptFile)
	if b == nil {
		return
	}
	var k keptJobs
	if err := json.Unmarshal(b, &k); err != nil || k.Version != 1 || len(k.Jobs) > maxJobs || slices.Contains(k.Jobs, nil) {
		sh.setAside(jobsName, "it is not what the stand-in writes")
		return
	}
	g.jobs = k.Jobs
}

// startJobs has the jobs of before a restart run when they are due.
func (g *Gateway) startJobs() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, j := range g.jobs {
		j.State.RunningAtMs = 0
		if j.timer == nil {
			g.armLocked(j)
		}
	}
}

// runJob runs a job that is due, in a session of its own, and removes it.
func (g *Gateway) runJob(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.IndexFunc(g.jobs, func(j *job) bool { return j.ID == id })
	if i < 0 || g.closed {
		return
	}
	j := g.jobs[i]
	key := cronPrefix + id
	s, now := g.sessions[key], time.Now().UnixMilli()
	if s == nil && len(g.sessions) >= maxSessions || s != nil && s.running != nil {
		g.dropJobLocked(id)
		return
	}
	if s == nil { // else it was interrupted by a restart
		s = &session{Key: key, Kind: "cron", Label: j.Name, UpdatedAt: now}
		g.sessions[key] = s
		g.store.list(g.sessions)
	}
	j.State = jobState{RunningAtMs: now}
	g.jobsChangedLocked(j, "started")
	ctx, cancel := context.WithTimeout(context.Background(), runLimit)
	answering := &run{g: g, s: s, sender: &client{g: g}, id: "cron-" + id, started: time.Now(), ctx: ctx, cancel: cancel}
	g.runs[answering.id] = answering
	s.running = answering
	g.say(s, spoken("user", j.Payload.Message, answering.id+":user"))
	g.answers.Add(2)
	go func() {
		defer g.answers.Done()
		answering.respond(j.Payload.Message, "")
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.closed { // it runs again after the restart
			j.State = jobState{NextRunAtMs: j.Schedule.At.UnixMilli()}
			g.jobsChangedLocked(j, "updated")
			return
		}
		j.State = jobState{LastRunAtMs: now}
		g.dropJobLocked(id)
	}()
}

// scheduled is /schedule 5: a job in five minutes.
func scheduled(r *run) string {
	minutes, err := strconv.ParseFloat(cmp.Or(r.words, "5"), 64)
	if err != nil || !(minutes > 0 && minutes <= 60*24*30) {
		r.stream("Say in how many minutes the job should run, for example `/schedule 5`.", 1)
		return ""
	}
	at := time.Now().Add(time.Duration(minutes * float64(time.Minute)))
	if _, err := r.g.plan("Pretended job", "/tool", at); err != nil {
		return "The job cannot be scheduled: " + err.Error()
	}
	r.stream(fmt.Sprintf("I scheduled a job that pretends to use two tools, for %s.", at.UTC().Format("15:04:05 UTC")), 1)
	return ""
}

// usage is what an answer's model cost.
type usage struct {
	Input       int  `json:"input"`
	Output      int  `json:"output"`
	TotalTokens int  `json:"totalTokens"`
	Cost        cost `json:"cost"`
}

type cost struct {
	Total float64 `json:"total"` // dollars
}

// costs is /cost 0.25: an answer that pretends to cost that many dollars.
func costs(r *run) string {
	dollars, err := strconv.ParseFloat(cmp.Or(r.words, "0.05"), 64)
	if err != nil || !(dollars > 0 && dollars <= 100) {
		r.stream("Say how many dollars the answer should pretend to cost, up to 100, for example `/cost 0.25`.", 1)
		return ""
	}
	r.stream("I pretend that this answer cost $"+strconv.FormatFloat(dollars, 'f', -1, 64)+". No model was asked, and nothing is billed by a provider.", 1)
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	r.usage = &usage{Input: 1200, Output: 300, TotalTokens: 1500, Cost: cost{dollars}}
	return ""
}
