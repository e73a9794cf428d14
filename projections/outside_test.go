package projections_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// An owner who did not request a stop reads its cause, during the stop and after it.
func TestStopFromOutsideHasAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.project(find(t, "instances"), find(t, "history"))
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	see := func(status instance.Status, events ...instance.Event) {
		t.Helper()
		w.append(encoded[instance.Event](w, "instance", "01OUTSIDE", instance.Codec.Encode, events...)...)
		w.caughtUp()
		if got, err := w.reader.Instance(t.Context(), "acc", "01OUTSIDE"); err != nil || got.Status != status || !strings.Contains(got.Reason, "from outside") {
			t.Errorf("got %+v, %v, want status %s and a reason from outside", got, err, status)
		}
	}
	see(instance.Stopping, instance.Requested{Account: "acc", Name: seal("acc", label("01OUTSIDE"), "desk"), Type: "t3.large", Region: "eu"}, instance.LaunchAttempted{Attempt: 1, At: at}, instance.MachineLaunched{Attempt: 1, Machine: "i-1", At: at},
		instance.MachineRunning{At: at}, instance.StopRequested{At: at, Outside: true})
	see(instance.Stopped, instance.MachineStopped{})
	if entries, err := w.reader.History(t.Context(), "acc", "01OUTSIDE", 0, 10); err != nil || len(entries) != 6 || entries[4].Sentence != "The machine is being stopped from outside." {
		t.Errorf("got history %+v, %v, want 6 entries, the fifth about the stop from outside", entries, err)
	}
}
