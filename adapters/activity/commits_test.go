package activity_test

import (
	"testing"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/adapters/embedded/pgtest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Reports wait for the disk. What the next call writes again does not.
func TestOnlyReportsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	d := open(t, "ada")
	d.desktop(t, "one", "ada", instance.Running, now(), "{}")
	commits := pgtest.WatchCommits(t, d.pool.Config().ConnString())
	if _, _, err := d.Running(t.Context()); err != nil {
		t.Fatal(err)
	}
	commits.Expect(nil, []string{"ops.activity"})
	d.put(t, activity.Report{Instance: "one", Account: "ada", At: ago(0), Input: ago(0)})
	commits.Expect([]string{"ops.activity"}, nil)
	if err := d.Drop(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	commits.Expect(nil, []string{"ops.activity"})
}
