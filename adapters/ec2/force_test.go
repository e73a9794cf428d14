package ec2_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2"
	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// TestForce terminates the machines of an instance whose events cannot be read, by their tags alone. The stage
// checks that the log says "terminated" only once no machine is left.
func TestForce(t *testing.T) {
	t.Parallel()
	play(t, setup{seed: 1, plan: slow}, func(s *stage) {
		s.Start()
		id, other := s.Create(), s.Create()
		s.Until("to run", id, provisionertest.Status(instance.Running))
		s.Until("to run", other, provisionertest.Status(instance.Running))
		s.Stop()
		stream := eventstore.StreamID{Aggregate: "instance", ID: id}
		version, err := s.Version(context.Background(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(context.Background(), eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: version, Events: []eventstore.NewEvent{
			{ID: "damaged", Type: "instance.renamed", Schema: 1, Time: time.Now(), Data: json.RawMessage(`"damaged"`)},
		}}}}); err != nil {
			t.Fatal(err)
		}
		f := &commands.Force{Log: s.Log, Cloud: s.newCloud(), Owner: func(context.Context, string) (string, error) { return "", nil }}
		done, err := f.Terminate(context.Background(), id)
		if err != nil || len(done.Machines) != 1 || done.Account == "" || !done.Released {
			t.Fatalf("got %+v, %v, want no error, len(done.Machines) 1, done.Account not empty and done.Released true", done, err)
		}
		for _, m := range s.srv.Machines() {
			if live, mine := m.Live(), m.Launch.Tags["instance"][ec2.TagInstance] == id; live == mine {
				t.Errorf("machine of %s: got %s, want live other than %v", m.Launch.Tags["instance"][ec2.TagInstance], m.State, mine)
			}
		}
		if again, err := f.Terminate(context.Background(), id); err != nil || !again.Already || len(again.Machines) > 0 {
			t.Errorf("again: got %+v, %v, want no error, again.Already true and no again.Machines", again, err)
		}
		if wrongs := s.Wrongs(); len(wrongs) > 0 {
			t.Error(wrongs)
		}
	})
}
