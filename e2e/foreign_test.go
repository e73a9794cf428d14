package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// smallEC2 is a process of ec2test.
type smallEC2 struct{ url string }

// launchForeign launches a machine as another control plane does: without our tags. It returns its id once it runs.
func (c smallEC2) launchForeign(t *testing.T) string {
	t.Helper()
	before := len(c.machines(t))
	form := url.Values{"Action": {"RunInstances"}, "Version": {"2016-11-15"}, "ImageId": {"ami-0123456789abcdef0"}, "InstanceType": {"t3.large"}, "MinCount": {"1"}, "MaxCount": {"1"}}
	req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+"/", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/ec2/aws4_request, SignedHeaders=host, Signature=x")
	req.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Fatalf("RunInstances: %s", text)
	}
	var id string
	await(t, 60*time.Second, "a machine to run", func() bool {
		all := c.machines(t)
		if len(all) == before {
			return false
		}
		id = all[len(all)-1].ID
		return all[len(all)-1].State == "running"
	})
	return id
}

type foreignMachine struct {
	ID    string `json:"id"`
	State string `json:"state"`
}

func (c smallEC2) machines(t *testing.T) (all []foreignMachine) {
	t.Helper()
	res, err := http.Get(c.url + "/_test/machines")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (c smallEC2) state(t *testing.T, id string) string {
	t.Helper()
	for _, m := range c.machines(t) {
		if m.ID == id {
			return m.State
		}
	}
	return ""
}

func (c smallEC2) outside(t *testing.T, id, state string) {
	t.Helper()
	res, err := http.PostForm(c.url+"/_test/outside", url.Values{"machine": {id}, "state": {state}})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	await(t, 60*time.Second, "the machine to be "+state, func() bool { return c.state(t, id) == state })
}
