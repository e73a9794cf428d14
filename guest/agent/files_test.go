package agent_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
)

// TestFilesReachTheModel sends a picture and files as the dashboard does. The model sees the picture and gets the paths of the
// files, which are in the agent's folders. The history names all of them, and hands none of them out.
func TestFilesReachTheModel(t *testing.T) {
	if os.Getenv("OPENCLAW") != "real" {
		t.Skip("set OPENCLAW=real to ask a real OpenClaw gateway, with its program in the PATH")
	}
	p := modeltest.Start(t, nil)
	g := startGateway(t, map[string]string{"ANTHROPIC_API_KEY": "sk"}, fmt.Sprintf(
		`{"models":{"providers":{"anthropic":{"baseUrl":%q,"api":"anthropic-messages"}}}}`, p.URL), false)
	var dot bytes.Buffer
	if err := png.Encode(&dot, image.NewRGBA(image.Rect(0, 0, 4, 2))); err != nil {
		t.Fatal(err)
	}
	picture, notes := base64.StdEncoding.EncodeToString(dot.Bytes()), "the notes of the user"
	files := fmt.Sprintf(`[{"type":"image","mimeType":"image/png","fileName":"dot.png","content":%q},`+
		`{"type":"file","mimeType":"application/octet-stream","fileName":"notes.bin","content":%q}]`, picture, base64.StdEncoding.EncodeToString([]byte(notes)))
	var asked []byte
	text, err := p.Play(func() (string, error) { return g.askWith("agent:main:main", "", files) }, func(u *modeltest.Turn) {
		asked = u.Next().Request
	})
	if err != nil || text != modeltest.Words {
		t.Fatalf("got answer %q %v, want %q and no error\ngateway: %s", text, err, modeltest.Words, g.out.tail())
	}
	if !bytes.Contains(asked, []byte(picture)) || !bytes.Contains(asked, []byte("notes")) {
		t.Errorf("the model got %d bytes, want the picture and the file's path in them", len(asked))
	}
	found := false
	_ = filepath.WalkDir(g.home, func(path string, d os.DirEntry, err error) error {
		if b, readErr := os.ReadFile(path); err == nil && readErr == nil && string(b) == notes && strings.Contains(path, "notes") {
			found = true
		}
		return nil
	})
	if !found {
		t.Error("the machine's disk: got no file with the bytes that were sent, want one")
	}
	var history struct {
		Messages []struct {
			Role string
			Meta struct {
				Media []struct {
					URL, ContentType, FileName string
					SizeBytes                  int
				}
			} `json:"__openclaw"`
		}
	}
	if err := g.read("chat.history", `{"sessionKey":"agent:main:main","limit":20}`, &history); err != nil {
		t.Fatal(err)
	}
	said, _ := json.Marshal(history)
	media := history.Messages[0].Meta.Media
	if len(media) != 2 || media[0].ContentType != "image/png" || media[1].FileName != "notes.bin" || media[1].SizeBytes != len(notes) {
		t.Fatalf("history: got %s, want the picture and the file", said)
	}
	for _, m := range media {
		if got, err := g.download(m.URL); err == nil {
			t.Errorf("download of %s: got %d bytes; if a page can have them, it needs no copies of its own", m.URL, len(got.Data))
		}
	}
	for want, file := range map[string]string{
		"empty payload":          `{"fileName":"e","content":""}`,
		"invalid base64 content": `{"fileName":"e","content":"***"}`,
		"image exceeds size limit": `{"fileName":"b.png","content":"` +
			base64.StdEncoding.EncodeToString(append(dot.Bytes(), make([]byte, 6<<20)...)) + `"}`,
	} {
		if _, err := g.askWith("agent:main:main", "x", "["+file+"]"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a refusal with %q", err, want)
		}
	}
}
