package gateway

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

func coded(b string) string { return base64.StdEncoding.EncodeToString([]byte(b)) }

// sendFiles sends a message with files and waits for its answer.
func (u *user) sendFiles(session, message, key, files string) (answer string) {
	u.t.Helper()
	p, f := u.ask("chat.send", fmt.Sprintf(`{"sessionKey":%q,"message":%q,"idempotencyKey":%q,"attachments":[%s]}`, session, message, key, files))
	if p["status"] != "started" {
		u.t.Fatalf("send: got %v %v, want started", p, f)
	}
	end := u.until("chat", state("final"))
	return end["message"].(map[string]any)["content"].([]any)[0].(map[string]any)["text"].(string)
}

// filesOf returns what a session's history says of files, and their contents on the disk.
func (u *user) filesOf(home, session string) (said, contents []string) {
	u.t.Helper()
	for _, m := range u.history(session) {
		all, _ := m.(map[string]any)["__openclaw"].(map[string]any)["media"].([]any)
		for _, v := range all {
			f := v.(map[string]any)
			name := strings.TrimPrefix(f["url"].(string), mediaScheme)
			b, err := os.ReadFile(filepath.Join(home, storeFolder, mediaFolder, name))
			if err != nil {
				b = []byte("gone")
			}
			said = append(said, fmt.Sprintf("%v %v %v %v", f["fileName"], f["contentType"], f["kind"], f["sizeBytes"]))
			contents = append(contents, string(b))
		}
	}
	return said, contents
}

func TestFilesOfMessages(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, g := keeping(t, home, nil)
	raw, _ := base64.StdEncoding.DecodeString(dot)
	files := `{"type":"image","mimeType":"application/x-odd","fileName":"dot.bin","content":"` + dot + `"},` +
		`{"type":"file","mimeType":"text/plain","fileName":"../ün\u0000ïcode notes.txt","content":"` + coded("hello notes") + `"},{"type":"file","fileName":"nothing"}`
	answer := u.sendFiles("main", "", "one", files)
	for _, want := range []string{"dot.bin", "image/png, 70 bytes", "ïcode notes.txt", "text/plain, 11 bytes"} {
		if !strings.Contains(answer, want) {
			t.Errorf("answer: got %q, want %q in it", answer, want)
		}
	}
	u.sendFiles("other", "and one more", "two", `{"fileName":"a.pdf","mimeType":"application/pdf","content":"`+coded("%PDF-1.4")+`"}`)
	for round := range 2 {
		said, contents := u.filesOf(home, "main")
		if got := strings.Join(said, "|"); got != "dot.bin image/png image 70|../ün\x00ïcode notes.txt text/plain document 11" {
			t.Errorf("history %d: got %q, want both files", round, got)
		}
		if len(contents) != 2 || contents[0] != string(raw) || contents[1] != "hello notes" {
			t.Errorf("on the disk %d: got %q, want the bytes that were sent", round, contents)
		}
		g.Close()
		u, g = keeping(t, home, nil) // a restart keeps them
	}
	if p, f := u.ask("sessions.delete", `{"key":"other"}`); p["deleted"] != true {
		t.Fatal(p, f)
	}
	if left, _ := os.ReadDir(filepath.Join(home, storeFolder, mediaFolder)); len(left) != 2 {
		t.Errorf("after deleting a session: got %d files, want the 2 of the other one", len(left))
	}
}

// The refusals are those of OpenClaw 2026.9.6.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	u := begin(t, allScopes, "")
	raw, _ := base64.StdEncoding.DecodeString(dot)
	for want, files := range map[string]string{
		"message or attachment required":                                                    ``,
		"UnsupportedAttachmentError: attachment e.txt: empty payload":                       `{"fileName":"e.txt","content":""}`,
		"Error: attachment attachment-1: invalid base64 content":                            `{"content":"***"}`,
		"Error: attachment b.png: image exceeds size limit (6291526 > 6291456 bytes)":       `{"fileName":"b.png","content":"` + base64.StdEncoding.EncodeToString(append(raw, make([]byte, maxImage)...)) + `"}`,
		"Error: attachment large: exceeds size limit (19464195 > 19464192 bytes)":           `{"fileName":"large","content":"` + strings.Repeat("A", base64.StdEncoding.EncodedLen(maxAttachment+3)) + `"}`,
		fmt.Sprintf("Error: %d attachments, at most %d are accepted", maxFiles+1, maxFiles): `{"content":"QQ=="}` + strings.Repeat(`,{"content":"QQ=="}`, maxFiles),
	} {
		_, f := u.ask("chat.send", `{"sessionKey":"main","message":"","idempotencyKey":"k","attachments":[`+files+`]}`)
		if f["code"] != "INVALID_REQUEST" || f["message"] != want {
			t.Errorf("got %v, want INVALID_REQUEST: %s", f, want)
		}
	}
}

func TestOldFilesMakeRoom(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	u, _ := keeping(t, home, nil)
	many := strings.TrimSuffix(strings.Repeat(`{"fileName":"old","content":"QQ=="},`, maxFiles), ",")
	u.sendFiles("main", "many", "one", many)
	u.sendFiles("main", "one more", "two", `{"fileName":"new","content":"Qg=="}`)
	_, contents := u.filesOf(home, "main")
	if n := strings.Count(strings.Join(contents, ""), "gone"); len(contents) != maxFiles+1 || n != 1 || contents[maxFiles] != "B" {
		t.Errorf("got %d files, %d of them gone, the last %q; want the newest %d", len(contents), n, contents[len(contents)-1], maxFiles)
	}
}
