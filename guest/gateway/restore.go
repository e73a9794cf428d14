package gateway

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxPictures = 12 // kept over all sessions, because each has up to maxPicture bytes
	interrupted = "The agent restarted before this answer was complete."
	maxKey      = 512
)

// restore reads the sessions of earlier runs of the guest. A run that did not end then was interrupted.
func (g *Gateway) restore() {
	sh, err := g.store.open()
	if errors.Is(err, fs.ErrNotExist) {
		return // the home is made later, when the machine is new
	}
	if err != nil {
		g.log.Warn("reading the stand-in's sessions failed", "err", err)
		return
	}
	defer sh.Close()
	g.restoreAllowed(sh)
	g.restoreJobs(sh)
	budget := maxLoaded
	for _, s := range sh.sessions() {
		name := fileOf(s.Key)
		b := sh.read(name, maxFile+1<<20)
		if len(b) > budget {
			sh.setAside(name, "the sessions are too large together")
			continue
		}
		budget -= len(b)
		whole, why := s.parse(b)
		if why != "" {
			sh.setAside(name, why)
		}
		asked := s.asked()
		if cut := asked != "" && s.ended != asked; cut || !whole {
			if cut {
				for _, m := range s.drafts {
					s.keep(m)
				}
				m := spoken("assistant", cmp.Or(s.draft, interrupted), asked)
				m.Timestamp = s.messages[len(s.messages)-1].Timestamp
				m.Abort = &abort{Aborted: true, Origin: "restart", RunID: asked}
				s.keep(m)
			}
			if err := sh.replace(name, s.lines()); err != nil {
				s.unsaved = true
			}
		}
		g.sessions[s.Key] = s
	}
	g.thin()
}

// sessions returns the sessions of the index, the newest first. If the index cannot be used, it returns those of all files.
func (sh *shelf) sessions() []*session {
	var x index
	b := sh.read(indexFile, maxIndex)
	if b != nil {
		if err := json.Unmarshal(b, &x); err != nil || x.Version != 1 {
			sh.setAside(indexFile, "it is not an index")
			b = nil
		}
	}
	if b == nil {
		x.Sessions = sh.found()
	}
	var list []*session
	known := map[string]bool{}
	for _, s := range x.Sessions {
		if canonical(s.Key) != s.Key || len(s.Key) > maxKey || known[s.Key] {
			continue
		}
		known[s.Key] = true
		list = append(list, &session{Key: s.Key, Kind: "direct", Label: clipText(s.Label, 200), Title: clipRunes(s.Title, 60), Archived: s.Archived && s.Key != mainKey, UpdatedAt: s.UpdatedAt})
	}
	slices.SortFunc(list, func(a, b *session) int { return cmp.Compare(b.UpdatedAt, a.UpdatedAt) })
	return list[:min(len(list), maxSessions)]
}

// found returns the sessions that the files name.
func (sh *shelf) found() (list []session) {
	dir, err := sh.Open(".")
	if err != nil {
		return nil
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(4 * maxSessions)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".jsonl") {
			continue
		}
		first, _, _ := bytes.Cut(sh.read(e.Name(), maxFile+1<<20), []byte("\n"))
		var r record
		if json.Unmarshal(first, &r) == nil && r.Type == "session" && fileOf(r.Key) == e.Name() {
			list = append(list, session{Key: r.Key})
		}
	}
	return list
}

// parse reads a session's file. whole says that nothing was left out; why, if anything but a last line that was cut off is
// wrong, what.
func (s *session) parse(b []byte) (whole bool, why string) {
	whole = true
	for n := 0; len(b) > 0; n++ {
		line, rest, ended := bytes.Cut(b, []byte("\n"))
		b = rest
		if !ended {
			return false, why // the machine stopped while it was written
		}
		var r record
		err := json.Unmarshal(line, &r)
		switch {
		case err == nil && n == 0 && r.Type == "session" && r.Key == s.Key:
		case err == nil && n > 0 && r.Type == "message" && r.Message != nil && r.Message.sound():
			s.keep(*r.Message)
			s.settle(r.Message)
		case err == nil && n > 0 && r.Type == "draft" && r.Message == nil && len(r.Text) <= 4*maxKept && utf8.ValidString(r.Text):
			s.draft = r.Text
		case err == nil && n > 0 && r.Type == "draft" && r.Message != nil && r.Message.sound():
			s.draft = ""
			s.drafts = append(s.drafts, *r.Message)
			s.drafts = s.drafts[max(0, len(s.drafts)-maxHistory):]
		case err == nil && n > 0 && r.Type == "end":
			s.ended = r.Run
		default:
			whole, why = false, "it has lines that are not the stand-in's"
		}
	}
	return whole, why
}

// settle drops the drafts that a message replaces.
func (s *session) settle(m *message) {
	if m.Role == "user" {
		s.ended, s.draft, s.drafts = "", "", nil
		return
	}
	if m.Role == "assistant" && m.Content[len(m.Content)-1].Type == "text" {
		s.draft = ""
	}
	s.drafts = slices.DeleteFunc(s.drafts, func(d message) bool { return d.Meta != nil && m.Meta != nil && d.Meta.ID == m.Meta.ID })
}

// keep adds a message to the transcript.
func (s *session) keep(m message) message {
	s.seq++
	id := rand.Text()
	if m.Meta != nil && m.Meta.ID != "" && len(m.Meta.ID) <= 64 {
		id = m.Meta.ID
	}
	var files []media
	if m.Meta != nil {
		files = m.Meta.Media
	}
	m.Meta = &meta{ID: id, Seq: s.seq, Media: files}
	s.messages = append(s.messages, m)
	if len(s.messages) > maxHistory {
		s.messages = s.messages[1:]
	}
	s.UpdatedAt = max(s.UpdatedAt, m.Timestamp)
	if m.Role == "user" && s.Title == "" {
		s.Title = clipRunes(m.Content[0].Text, 60)
	}
	return m
}

// sound reports whether a message is one that the stand-in can have written: the file's owner may have changed it.
func (m *message) sound() bool {
	if m.Role != "user" && m.Role != "assistant" && m.Role != "toolResult" || len(m.Content) == 0 || len(m.Content) > 64 ||
		len(m.IdempotencyKey) > maxKey || len(m.ToolCallID) > maxKey || len(m.ToolName) > maxKey || m.StopReason != "" && m.StopReason != "error" ||
		m.Timestamp < 0 || m.Timestamp > time.Now().Add(24*time.Hour).UnixMilli() {
		return false
	}
	if m.Meta != nil && (len(m.Meta.Media) > maxFiles || slices.ContainsFunc(m.Meta.Media, func(f media) bool { return !f.sound() })) {
		return false
	}
	for _, c := range m.Content {
		switch c.Type {
		case "text":
			if len(c.Text) > 4*maxKept || !utf8.ValidString(c.Text) {
				return false
			}
		case "toolCall":
			if args, err := json.Marshal(c.Arguments); err != nil || len(args) > maxKept || len(c.ID) > maxKey || len(c.Name) > maxKey {
				return false
			}
		case "image":
			if c.MimeType != "image/png" && c.MimeType != "image/jpeg" || len(c.Alt) > maxKey || len(c.Data) > base64.StdEncoding.EncodedLen(maxPicture) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// thin keeps the newest pictures of all sessions.
func (g *Gateway) thin() {
	type picture struct {
		s       *session
		message int
		part    int
		at      int64
	}
	var all []picture
	for _, s := range g.sessions {
		for i, m := range s.messages {
			for j, c := range m.Content {
				if c.Type == "image" {
					all = append(all, picture{s, i, j, m.Timestamp})
				}
			}
		}
	}
	if len(all) <= maxPictures {
		return
	}
	slices.SortStableFunc(all, func(a, b picture) int { return cmp.Compare(b.at, a.at) })
	changed := map[*session]bool{}
	for _, p := range all[maxPictures:] {
		m := &p.s.messages[p.message]
		m.Content = slices.Clone(m.Content)
		m.Content[p.part] = words("[This picture is no longer kept.]")
		changed[p.s] = true
	}
	for s := range changed {
		g.store.rewrite(s)
	}
}

func clipText(s string, n int) string { return strings.ToValidUTF8(clip(s, n), "") }
