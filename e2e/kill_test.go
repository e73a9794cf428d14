package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The points at which the saga can die, by the call or append they surround; see provisioner.Saga.At.
var (
	launchPoints    = around("append.attempt", "call.call.launch", "append.call.launch")
	stopPoints      = around("call.call.stop", "append.call.stop")
	startPoints     = around("call.call.start", "append.call.start")
	terminatePoints = around("call.call.terminate", "append.call.terminate")
)

func around(effects ...string) []string {
	var points []string
	for _, e := range effects {
		points = append(points, e+".before", e+".after")
	}
	return points
}

// TestKillAtEverySagaStep kills the server with SIGKILL before and after each of the saga's effects, starts it again, and
// expects the same result as without a kill: one machine launched for the instance, none left after its termination.
func TestKillAtEverySagaStep(t *testing.T) {
	t.Parallel()
	s := newServer(t, "MAX_INSTANCES_PER_USER=100")
	s.start()
	u := signUp(t, s.URL, "grace@example.com")

	kills := 0
	// dies runs do on a server that kills itself at point, and then starts one that does not.
	dies := func(point string, do func()) {
		s.stop()
		s.launch("FAILPOINT=" + point)
		s.waitUp()
		do()
		select {
		case <-s.exit:
			kills++
		case <-time.After(60 * time.Second):
			t.Fatalf("the server was not killed at %s", point)
		}
		s.start()
	}
	create := func(key string) string {
		return u.must(http.StatusAccepted, "POST", "/api/instances", "{}", "Idempotency-Key", key).field("id")
	}
	ask := func(method, path string) func() {
		return func() { _, _ = u.try(method, path, "") } // the kill may be faster than the answer
	}

	for _, point := range launchPoints {
		dies(point, func() { _, _ = u.try("POST", "/api/instances", "{}", "Idempotency-Key", point) })
		id := create(point)
		u.awaitInstance(id, "ready", "true")
		u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
		u.awaitInstance(id, "status", "terminated")
	}
	id := create("for-all-the-rest")
	u.awaitInstance(id, "ready", "true")
	for i := range stopPoints {
		dies(stopPoints[i], ask("POST", "/api/instances/"+id+"/stop"))
		u.awaitInstance(id, "status", "stopped")
		dies(startPoints[i], ask("POST", "/api/instances/"+id+"/start"))
		u.awaitInstance(id, "ready", "true")
	}
	for _, point := range terminatePoints {
		dies(point, ask("DELETE", "/api/instances/"+id))
		u.awaitInstance(id, "status", "terminated")
		if left := s.leftOf(id); len(left) > 0 {
			t.Errorf("killed at %s: got %v left, want nothing", point, left)
		}
		id = create("after-" + point)
		u.awaitInstance(id, "ready", "true")
	}

	launches := s.ledgerLaunches()
	instances := 0
	for range s.eventTypes("--type", "instance.requested") {
		instances++
	}
	for token, n := range launches {
		if n != 1 {
			t.Errorf("client token %s: got %d machines, want 1", token, n)
		}
	}
	if len(launches) != instances {
		t.Errorf("launches in the ledger: got %d, want %d, one an instance", len(launches), instances)
	}
	t.Logf("%d kills, %d instances, %d machines launched, none twice", kills, instances, len(launches))
	u.must(http.StatusAccepted, "DELETE", "/api/instances/"+id, "")
	u.awaitInstance(id, "status", "terminated")
}

// waitUp waits until the server answers at all: one with a failpoint may die before it is ready.
func (s *server) waitUp() {
	s.t.Helper()
	await(s.t, 60*time.Second, "the server to answer or die", func() bool {
		select {
		case <-s.exit:
			return true
		default:
		}
		res, err := http.Get(s.URL + "/health")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	})
}

// ledgerLaunches counts the machines in the local provider's own ledger, by ClientToken.
func (s *server) ledgerLaunches() map[string]int {
	f, err := os.Open(filepath.Join(s.dir, "machines", "ledger.jsonl"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	count := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e struct {
			Call  string `json:"call"`
			Token string `json:"client_token"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			s.t.Fatal(fmt.Errorf("ledger: %w", err))
		}
		if e.Call == "launch" {
			count[e.Token]++
		}
	}
	return count
}
