package guest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// refusedError is a refusal that a quick retry will not change.
type refusedError struct{ msg string }

func (e *refusedError) Error() string { return e.msg }

// enroll registers the machine's key with the control plane, once. Repeating it with the same key is harmless, so a lost
// answer only costs a retry.
func (g *Guest) enroll(ctx context.Context) error {
	mark := filepath.Join(g.c.StateDir, enrolledFile)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	body, err := json.Marshal(wire.Enroll{Token: g.c.Token, PublicKey: g.key.Public().(ed25519.PublicKey)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.c.ControlPlaneURL+wire.EnrollPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, wire.MaxEnroll))
	switch {
	case err != nil:
		return err
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return fmt.Errorf("enrol: the control plane answered %s", res.Status)
	case res.StatusCode != http.StatusOK:
		return &refusedError{fmt.Sprintf("enrolment refused (%s): the token has been used, has expired, or is for another machine", res.Status)}
	}
	var enrolled wire.Enrolled
	if err := json.Unmarshal(answer, &enrolled); err != nil || enrolled.Instance != g.c.Instance {
		return &refusedError{"the answer to the enrolment is for another instance"}
	}
	g.log.Info("guest enrolled")
	return writeFile(mark, []byte(enrolled.Instance+"\n"))
}

// forget makes the next connection enrol first.
func (g *Guest) forget() { _ = os.Remove(filepath.Join(g.c.StateDir, enrolledFile)) }
