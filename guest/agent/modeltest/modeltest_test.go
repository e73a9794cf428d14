package modeltest_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudbot-ai/control-plane/guest/agent/modeltest"
)

// TestTurn plays an agent with one tool, in the two APIs that can call tools.
func TestTurn(t *testing.T) {
	t.Parallel()
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewRGBA(image.Rect(0, 0, 4, 2))); err != nil {
		t.Fatal(err)
	}
	data := base64.StdEncoding.EncodeToString(picture.Bytes())
	for path, result := range map[string]string{
		"/v1/messages": `{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[` +
			`{"type":"text","text":"frameId a-1-2-3-4"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + data + `"}}]}]}`,
		"/v1/chat/completions": `{"role":"tool","tool_call_id":"call_1","content":"frameId a-1-2-3-4"},` +
			`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + data + `"}}]}`,
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			m := modeltest.Start(t, nil)
			agent := func() (string, error) {
				said := `{"role":"user","content":"look"}`
				for range 3 {
					answer, err := ask(m.URL+path, said)
					if err != nil || strings.Contains(answer, "heard") {
						return answer, err
					}
					if !strings.Contains(answer, "computer") {
						return answer, errors.New("an answer without a call of the tool")
					}
					said += fmt.Sprintf(`,{"role":"assistant","content":%q},%s`, answer, result)
				}
				return "", errors.New("the turn has no end")
			}
			answer, err := m.Play(agent, func(u *modeltest.Turn) {
				if got := u.Look(); got.Picture.Bounds().Dx() != 4 || got.Format != "png" || got.Text != "frameId a-1-2-3-4" {
					t.Errorf("screenshot: got %s, want a-1-2-3-4 with a picture of 4 by 2", got)
				}
				if got := u.Click(image.Pt(640, 400), image.Pt(1280, 800)); !strings.Contains(string(got.Request), "[2,1]") ||
					!strings.Contains(string(got.Request), "a-1-2-3-4") {
					t.Errorf("click: got %s, want one at 2, 1 of a-1-2-3-4", got.Request)
				}
			})
			if text := strings.Join(regexp.MustCompile(`I |heard |you\.`).FindAllString(answer, -1), ""); err != nil || text != modeltest.Words {
				t.Errorf("answer: got %s %v, want %q", answer, err, modeltest.Words)
			}
			if !m.Asked("m", "k") || m.Asked("m", "another") {
				t.Errorf("requests: got %s, want those of model m with key k", m)
			}
			if answer, err := ask(m.URL+path, `{"role":"user","content":"say:this:"}`); err != nil || !strings.Contains(answer, "this, ") {
				t.Errorf("outside a turn: got %s %v, want %q", answer, err, modeltest.Said("this"))
			}
		})
	}
}

func ask(url, messages string) (string, error) {
	body := fmt.Sprintf(`{"model":"m","tools":[{"name":"computer"}],"messages":[%s]}`, messages)
	if !json.Valid([]byte(body)) {
		return "", fmt.Errorf("not JSON: %s", body)
	}
	req, err := http.NewRequest("POST", url, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer k")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}
