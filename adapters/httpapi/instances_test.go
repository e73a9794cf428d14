package httpapi

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/projections"
)

// A desktop on the server's own computer has no size of EC2, not even one that was requested with such a name.
func TestLocalInstanceHasNoSize(t *testing.T) {
	t.Parallel()
	v := view(projections.Instance{Type: "t3.large", Region: "local"})
	if v.Type != "local" {
		t.Errorf("got %q, want local", v.Type)
	}
	if v := view(projections.Instance{Type: "t3.large", Region: "eu-central-1"}); v.Type != "t3.large" {
		t.Errorf("on EC2: got %q, want t3.large", v.Type)
	}
}

func TestInstanceLife(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	created := f.want(202, call{method: "POST", path: "/api/instances", token: ada.access, body: `{"name":"  Research ","instance_type":"t3.xlarge"}`})
	var v instanceView
	created.into(t, &v)
	if v.Name != "Research" || v.Status != "launching" || v.Type != "t3.xlarge" || v.VNCPort != 5900 || v.CloudbotPort != 18789 || v.PublicIP != nil {
		t.Errorf("got %+v, want Research, launching, t3.xlarge, ports 5900 and 18789, no address", v)
	}
	path := "/api/instances/" + v.ID
	if created.header.Get("Location") != path {
		t.Errorf("Location: got %q, want %q", created.header.Get("Location"), path)
	}
	position := created.position(t)
	read := f.want(200, call{method: "GET", path: path, token: ada.access, header: map[string]string{"Cloudbot-Wait-For": strconv.FormatInt(position, 10)}})
	if got := read.position(t); got < position {
		t.Errorf("position after waiting: got %d, want at least %d", got, position)
	}

	f.want(409, call{method: "POST", path: path + "/stop", token: ada.access}) // still starting
	f.happen(v.ID,
		instance.LaunchAttempted{Attempt: 1, At: f.clock.Now()}, instance.MachineLaunched{Attempt: 1, Machine: "i-1"},
		instance.MachineRunning{Address: "203.0.113.7", At: f.clock.Now()})
	before := f.head()
	a := f.want(202, call{method: "POST", path: path + "/start/", token: ada.access}) // already so
	if f.head() != before || a.field(t, "status") != "running" {
		t.Errorf("start of a running instance: got %s and %d new events, want running and none", a.body, f.head()-before)
	}
	if a := f.want(202, call{method: "POST", path: path + "/stop", token: ada.access, body: "{}"}); a.field(t, "status") != "stopping" {
		t.Errorf("got %s, want stopping", a.body)
	}
	if a := f.want(200, call{method: "PATCH", path: path, token: ada.access, body: `{"name":"Renamed"}`}); a.field(t, "name") != "Renamed" || a.field(t, "public_ip") != "203.0.113.7" {
		t.Errorf("got %s, want Renamed with its address", a.body)
	}
	if a := f.want(202, call{method: "DELETE", path: path, token: ada.access}); a.field(t, "status") != "terminating" {
		t.Errorf("got %s, want terminating", a.body)
	}
	f.happen(v.ID, instance.MachineGone{Asked: true}, instance.Terminated{})
	list := f.want(200, call{method: "GET", path: "/api/instances", token: ada.access})
	if bytes.Contains(list.body, []byte(v.ID)) {
		t.Errorf("got %s, want no terminated instance", list.body)
	}
	all := f.want(200, call{method: "GET", path: "/api/instances?include=terminated", token: ada.access})
	if !bytes.Contains(all.body, []byte(v.ID)) {
		t.Errorf("got %s, want the terminated instance", all.body)
	}
	f.want(409, call{method: "POST", path: path + "/start", token: ada.access})
}

func TestCreateIsReplayedByteForByte(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	create := call{method: "POST", path: "/api/instances", token: ada.access, body: `{"name":"One"}`, header: map[string]string{"Idempotency-Key": "key-1"}}
	first := f.want(202, create)
	f.clock.advance(time.Minute)
	f.happen(first.field(t, "id"), instance.LaunchAttempted{Attempt: 1, At: f.clock.Now()})
	before := f.head()
	again := f.want(202, create)
	if !bytes.Equal(first.body, again.body) || again.header.Get("Idempotency-Replayed") != "true" || first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("got replay %q of %s: %s, want the same bytes", again.header.Get("Idempotency-Replayed"), first.body, again.body)
	}
	if got, want := again.position(t), first.position(t); got != want {
		t.Errorf("position of the replay: got %d, want %d", got, want)
	}
	create.body = `{"name":"Two"}`
	if a := f.want(422, create); a.field(t, "code") != "idempotency_key_reused" {
		t.Errorf("got %s, want idempotency_key_reused", a.body)
	}
	if f.head() != before {
		t.Errorf("events of a replay: got %d, want 0", f.head()-before)
	}
	// Another account's key of the same name is another key.
	bob := f.signUp("bob@example.com")
	create.token = bob.access
	if other := f.want(202, create); other.field(t, "id") == first.field(t, "id") {
		t.Errorf("another account's instance: got the first account's, want its own")
	}
	for what, c := range map[string]call{
		"terminate": {method: "DELETE", path: "/api/instances/" + first.field(t, "id"), token: ada.access},
		"key":       {method: "POST", path: "/api/user/api-keys", token: ada.access, body: `{"provider":"openai","api_key":"sk-12345678"}`},
	} {
		c.header = map[string]string{"Idempotency-Key": "k-" + what}
		one, two := f.do(c), f.do(c)
		if one.status >= 300 || one.status != two.status || !bytes.Equal(one.body, two.body) || two.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: got %d %s, then %d %s, want the same twice and a replay", what, one.status, one.body, two.status, two.body)
		}
	}
}

func TestQuotaIsAnswered(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	for range 3 {
		f.create(ada, "x")
	}
	if a := f.want(409, call{method: "POST", path: "/api/instances", token: ada.access, body: "{}"}); a.field(t, "code") != "quota_exceeded" {
		t.Errorf("got %s, want quota_exceeded", a.body)
	}
}

func TestCreatesAreLimited(t *testing.T) {
	t.Parallel()
	f := newFront(t, func(c *Config) { c.Limits.Create = Rate{1, time.Minute} })
	ada := f.signUp("ada@example.com")
	f.create(ada, "x")
	f.want(429, call{method: "POST", path: "/api/instances", token: ada.access, body: "{}"})
}

func TestListsArePaged(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	var want []string
	for i := range 3 {
		want = append([]string{f.create(ada, fmt.Sprint("n", i))}, want...)
		f.clock.advance(time.Millisecond) // ULIDs of one millisecond have no order
	}
	var got []string
	for next := ""; ; {
		var page struct {
			Instances []instanceView
			Next      *string `json:"next_cursor"`
		}
		f.want(200, call{method: "GET", path: "/api/instances?limit=2" + next, token: ada.access}).into(t, &page)
		for _, i := range page.Instances {
			got = append(got, i.ID)
		}
		if page.Next == nil {
			break
		}
		next = "&cursor=" + *page.Next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestHistoryIsPaged(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	read := func(order string) (types, cursors []string) {
		for next := ""; ; {
			var page struct {
				Events []eventView
				Next   *string `json:"next_cursor"`
			}
			f.want(200, call{method: "GET", path: "/api/instances/" + id + "/history?limit=3" + order + next, token: ada.access}).into(t, &page)
			for _, e := range page.Events {
				types = append(types, e.Type+" by "+e.Who)
			}
			if page.Next == nil {
				return types, cursors
			}
			cursors = append(cursors, *page.Next)
			next = "&cursor=" + *page.Next
		}
	}
	want := []string{"instance.requested by you", "instance.launch_attempted by system", "instance.machine_launched by system", "instance.machine_running by system"}
	if types, _ := read("&order=asc"); !slices.Equal(types, want) {
		t.Errorf("%v, want %v", types, want)
	}
	types, cursors := read("")
	if !slices.Equal(types, want) {
		t.Errorf("%v, want %v", types, want)
	}
	slices.Reverse(want)
	if types, _ := read("&order=desc"); !slices.Equal(types, want) {
		t.Errorf("newest first: %v, want %v", types, want)
	}
	f.want(422, call{method: "GET", path: "/api/instances/" + id + "/history?order=desc&cursor=" + cursors[0], token: ada.access}) // the other order's
	f.want(422, call{method: "GET", path: "/api/instances?cursor=aGlzdG9yeToz", token: ada.access})                                // another list's cursor
}

func TestAQueryAnswersAnywayWhenTheReadModelStaysBehind(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	f.caughtUp()
	began := time.Now()
	a := f.want(200, call{method: "GET", path: "/api/instances", token: ada.access, header: map[string]string{"Cloudbot-Wait-For": "1000000"}})
	if took := time.Since(began); took < maxWait/2 {
		t.Errorf("wait: got %s, want at least %s", took, maxWait/2)
	}
	if got, want := a.position(t), f.head(); got != want {
		t.Errorf("position: got %d, want %d", got, want)
	}
}

func TestVersionsOfAMachine(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.signUp("ada@example.com")
	id := f.running(ada, "x")
	versions := func() map[string]string {
		var got struct{ Versions map[string]string }
		f.want(200, call{method: "GET", path: "/api/instances/" + id, token: ada.access}).into(t, &got)
		return got.Versions
	}
	if got := versions(); got == nil || len(got) != 0 {
		t.Errorf("before the machine connected: got %v, want an empty map", got)
	}
	f.happen(id, instance.VersionsReported{Boot: "b", Versions: map[string]string{"guest": "1.2.3", "os": "debian 13"}, At: f.clock.Now()})
	if got := versions(); len(got) != 2 || got["guest"] != "1.2.3" {
		t.Errorf("got %v, want guest 1.2.3 and one more", got)
	}
}
