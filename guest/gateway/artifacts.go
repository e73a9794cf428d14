package gateway

import (
	"encoding/base64"
	"encoding/json"
	"slices"
)

// Like the original, the stand-in leaves pictures out of events and of the history. The history names them, and a client
// that wants one downloads it. A name holds until the session's next run begins.

const artifactPrefix = "artifact_transcript_image_"

// reference is what an artifact's name says.
type reference struct {
	Source    string `json:"source"` // the session's latest run when the name was given
	MessageID string `json:"messageId"`
	Index     int    `json:"contentIndex"`
}

func (r reference) String() string {
	b, _ := json.Marshal(r)
	return artifactPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// leftOut returns the content without the data of its pictures; name may be nil.
func leftOut(parts []content, name func(index int) string) []content {
	if !slices.ContainsFunc(parts, func(c content) bool { return c.Data != "" }) {
		return parts
	}
	parts = slices.Clone(parts)
	for i := range parts {
		c := &parts[i]
		if c.Data == "" {
			continue
		}
		c.Omitted, c.Bytes, c.Data = true, sizeOf(c.Data), ""
		if name != nil {
			c.ArtifactID = name(i)
		}
	}
	return parts
}

func (s *session) leaveOut(m message) message {
	m.Content = leftOut(m.Content, func(i int) string { return reference{s.asked(), m.Meta.ID, i}.String() })
	return m
}

// sizeOf returns how many bytes a text in base64 stands for.
func sizeOf(data string) int {
	raw, _ := base64.StdEncoding.DecodeString(data)
	return len(raw)
}

func artifactsDownload(c *client, r request) {
	var p struct{ SessionKey, ArtifactID string }
	if !params(c, r, &p) {
		return
	}
	key := canonical(p.SessionKey)
	picture, found := c.g.picture(key, p.ArtifactID)
	if !found {
		c.answer(r.ID, nil, &failure{Code: "INVALID_REQUEST", Message: "artifact not found"})
		return
	}
	c.answer(r.ID, map[string]any{
		"artifact": map[string]any{
			"id": p.ArtifactID, "type": "image", "title": "Image", "mimeType": picture.MimeType, "sizeBytes": sizeOf(picture.Data),
			"sessionKey": key, "source": "session-transcript", "download": map[string]any{"mode": "bytes"},
		},
		"encoding": "base64", "data": picture.Data,
	}, nil)
}

// picture returns the picture with the name.
func (g *Gateway) picture(key, name string) (content, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.sessions[key]
	if s == nil {
		return content{}, false
	}
	all := s.messages
	if s.running != nil {
		all = slices.Concat(all, s.running.transcript)
	}
	for _, m := range all {
		for i, c := range m.Content {
			if c.Data != "" && (reference{s.asked(), m.Meta.ID, i}).String() == name {
				return c, true
			}
		}
	}
	return content{}, false
}
