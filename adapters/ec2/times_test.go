package ec2_test

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// answering gives every call the same answer.
type answering string

func (a answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/xml"}}, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

// The times of a run, as EC2 writes them.
func TestTimesOfARun(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)
	for reason, want := range map[string]time.Time{
		"User initiated (2026-11-28 09:00:00 GMT)":                  at,
		"User initiated (2026-11-28 09:00:00 UTC)":                  at,
		"Server.ScheduledStop: (why not) (2026-11-28 09:00:00 GMT)": at,
		"":                     {},
		"User initiated":       {},
		"Server.InternalError": {},
		"User initiated (2026-11-28 09:00:00 CET)": {},
		"User initiated (soon GMT)":                {},
		")(":                                       {},
	} {
		var escaped strings.Builder
		if err := xml.EscapeText(&escaped, []byte(reason)); err != nil {
			t.Fatal(err)
		}
		answer := `<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>
			<instanceState><code>80</code><name>stopped</name></instanceState><launchTime>2026-11-28T08:00:00.000Z</launchTime><reason>` + escaped.String() + `</reason></item></instancesSet></item></reservationSet></DescribeInstancesResponse>`
		c, err := ec2.New(t.Context(), config(func(c *ec2.Config) {
			c.Endpoint, c.AWS = "http://ec2.test", awsConfig(answering(answer))
		}))
		if err != nil {
			t.Fatal(err)
		}
		list, err := c.Describe(t.Context(), []string{"i-1"})
		if err != nil || len(list) != 1 || list[0].Seen != instance.SeenStopped || !list[0].Ended.Equal(want) || !list[0].Started.Equal(at.Add(-time.Hour)) {
			t.Errorf("%q: got %+v, %v, want it started an hour before %v and ended at %v", reason, list, err, at, want)
		}
	}
}

// The time of a termination is the end of a run only if the machine ran until then, as EC2's answer to our call says.
func TestTimeOfATermination(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(s *ec2test.Server, id string) error
		ours   bool
		known  bool
	}{
		"it ran":                         {ours: true, known: true},
		"it was stopping":                {before: func(s *ec2test.Server, id string) error { return s.Outside(id, ec2test.Stopped) }, ours: true},
		"another client terminated it":   {},
		"our call ended what was ending": {before: func(s *ec2test.Server, id string) error { return s.Outside(id, ec2test.Terminated) }, ours: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				srv := ec2test.New(ec2test.Config{Plan: ec2test.Plan{Stop: ec2test.Span{Min: time.Minute}, Terminate: ec2test.Span{Min: time.Minute}}})
				cloud := open(t, srv, nil)
				id, _ := launch(t, cloud, plan(1))
				look := func() machines.Machine {
					list, err := cloud.Describe(t.Context(), []string{id})
					if err != nil || len(list) != 1 {
						t.Fatalf("got %v, %v, want one machine", list, err)
					}
					return list[0]
				}
				if m := look(); m.Seen != instance.SeenRunning || m.Started.IsZero() || !m.Ended.IsZero() {
					t.Fatalf("got %+v, want it running since a time", m)
				}
				time.Sleep(time.Hour)
				if c.before != nil {
					if err := c.before(srv, id); err != nil {
						t.Fatal(err)
					}
				}
				ended := time.Now()
				end := func() error { return srv.Outside(id, ec2test.Terminated) }
				if c.ours {
					end = func() error { return cloud.Terminate(context.Background(), id) }
				}
				if err := end(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				if m := look(); m.Seen != instance.SeenGone || m.Ended.IsZero() == c.known || c.known && !m.Ended.Equal(ended.Truncate(time.Second)) {
					t.Errorf("got %+v, want it gone, and its end known: %v", m, c.known)
				}
			})
		})
	}
}
