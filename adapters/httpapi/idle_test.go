package httpapi

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

func (f *front) idle(t testing.TB, u user, id string) idleView {
	t.Helper()
	var v instanceView
	f.want(200, call{method: "GET", path: "/api/instances/" + id, token: u.access}).into(t, &v)
	if v.Idle == nil {
		t.Fatal("got no idle stop, want one")
	}
	return *v.Idle
}

// An instance says how it is used and when it stops, in each of its states.
func TestIdleOfAnInstance(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	noon := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	f.at(t, noon)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	if v := f.idle(t, ada, id); v.State != idle.Unknown || v.OwnPolicy || *v.Cause != idle.ByCeiling || v.LastUsedAt != nil || !v.StopAt.Equal(noon.Add(24*time.Hour)) {
		t.Errorf("without reports: got %+v, want unknown use and the ceiling", v)
	}
	f.clock.advance(30 * time.Minute)
	now := f.clock.Now()
	f.used.of[id] = commands.Activity{Instance: id, Account: ada.account, Input: now.Add(-20 * time.Minute), Agent: now.Add(-10 * time.Minute), Since: noon, Known: noon, Reported: now, NextJob: now.Add(5 * time.Hour)}
	v := f.idle(t, ada, id)
	if v.State != idle.Idle || *v.Cause != idle.ByIdle || !v.LastUsedAt.Equal(now.Add(-20*time.Minute)) || !v.LastAgentAt.Equal(now.Add(-10*time.Minute)) ||
		!v.StopAt.Equal(now.Add(50*time.Minute)) || !v.WarnAt.Equal(now.Add(45*time.Minute)) || !v.NextJobAt.Equal(now.Add(5*time.Hour)) || v.Warning != nil || v.WakeAt != nil {
		t.Errorf("idle: got %+v, want a stop an hour after the agent", v)
	}
	f.happen(id, instance.IdleWarned{At: now, StopAt: now.Add(5 * time.Minute), Cause: instance.CauseIdle, Why: "No input."})
	if v := f.idle(t, ada, id); v.Warning == nil || v.Warning.Why != "No input." || v.Warning.Cause != instance.CauseIdle {
		t.Errorf("warned: got %+v, want the warning", v)
	}
	a := f.want(200, call{method: "POST", path: "/api/instances/" + id + "/extend", token: ada.access, body: `{"minutes":120}`})
	var extended instanceView
	if a.into(t, &extended); extended.Idle.Warning != nil || extended.Idle.ExtendedUntil == nil || !extended.Idle.ExtendedUntil.Equal(now.Add(2*time.Hour)) || extended.Idle.StopAt.Before(now.Add(2*time.Hour)) {
		t.Errorf("extended: got %+v, want no warning and two hours", extended.Idle)
	}
	f.happen(id, instance.StopRequested{At: now, Cause: instance.CauseIdle, Why: "No input since 12:10.", WakeAt: now.Add(4 * time.Hour), Jobs: idle.Wake, NextJob: now.Add(5 * time.Hour)}, instance.MachineStopped{Asked: true})
	if v := f.idle(t, ada, id); v.State != idle.NotRunning || v.StopAt != nil || *v.StoppedWhy != "No input since 12:10." || !v.WakeAt.Equal(now.Add(4*time.Hour)) || !v.NextJobAt.Equal(now.Add(5*time.Hour)) || v.ExtendedUntil != nil {
		t.Errorf("stopped: got %+v, want the reason and when it wakes", v)
	}
	f.want(200, call{method: "PUT", path: "/api/instances/" + id + "/idle-policy", token: ada.access, body: `{"policy":{"after_s":3600,"warn_s":0,"ceiling_s":0,"jobs":"sleep"}}`})
	f.caughtUp()
	if v := f.idle(t, ada, id); v.WakeAt != nil || !v.NextJobAt.Equal(now.Add(5*time.Hour)) {
		t.Errorf("a policy to sleep since: got %+v, want a job and no start for it", v)
	}
	if a := f.want(409, call{method: "POST", path: "/api/instances/" + id + "/extend", token: ada.access, body: `{"minutes":1}`}); a.field(t, "code") != "instance_not_running" {
		t.Errorf("got %s, want instance_not_running", a.body)
	}
}

// The desktop's own policy comes before the account's, and that before the default.
func TestIdlePolicies(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	account := func(want string) {
		t.Helper()
		if a := f.want(200, call{method: "GET", path: "/api/user/idle-policy", token: ada.access}); string(a.body) != want+"\n" {
			t.Errorf("got %s, want %s", a.body, want)
		}
	}
	unset := `{"policy":{"after_s":3600,"warn_s":300,"ceiling_s":86400,"jobs":"wake"},"own_policy":false,"shortest_s":300}`
	account(unset)
	keep := f.clock.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	put := func(path, policy string) answer {
		t.Helper()
		a := f.want(200, call{method: "PUT", path: path, token: ada.access, body: `{"policy":` + policy + `}`})
		f.caughtUp()
		return a
	}
	own := `{"after_s":600,"warn_s":60,"ceiling_s":0,"keep_until":"` + keep + `","jobs":"sleep"}`
	put("/api/user/idle-policy", own)
	account(`{"policy":` + own + `,"own_policy":true,"shortest_s":300}`)
	if v := f.idle(t, ada, id); v.OwnPolicy || v.Policy.After != 600 {
		t.Errorf("got %+v, want the account's policy", v)
	}
	desktops := "/api/instances/" + id + "/idle-policy"
	a := put(desktops, `{"after_s":0,"warn_s":0,"ceiling_s":0,"keep_until":null,"jobs":"wake"}`)
	if !strings.Contains(string(a.body), `"policy":{"after_s":0,"warn_s":0,"ceiling_s":0,"jobs":"wake"},"own_policy":true,"state":"off"`) {
		t.Errorf("got %s, want its own policy, which never stops it", a.body)
	}
	put(desktops, `null`)
	put("/api/user/idle-policy", `null`)
	account(unset)
	if v := f.idle(t, ada, id); v.OwnPolicy || v.Policy != idle.Default() {
		t.Errorf("got %+v, want the default", v)
	}
	if a := f.want(422, call{method: "PUT", path: desktops, token: ada.access, body: `{"policy":{"after_s":60,"warn_s":0,"ceiling_s":0,"jobs":"wake"}}`}); a.field(t, "code") != "invalid_idle_policy" || a.field(t, "field") != "after_s" {
		t.Errorf("got %s, want a refusal of after_s", a.body)
	}
	if a := f.want(422, call{method: "PUT", path: desktops, token: ada.access, body: `{"policy":{"after_s":3600,"warn_s":0,"ceiling_s":0,"keep_until":"0000-01-01T00:00:00+01:00","jobs":"wake"}}`}); a.field(t, "field") != "keep_until" {
		t.Errorf("got %s, want a refusal of keep_until", a.body)
	}
}
