package gateway

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Files that come with a message. Like the original, the stand-in takes them in base64, keeps them in a folder, and names
// them in the message's metadata; it hands them out to no client.

// The limits of the original, as stated in hello-ok.
const (
	maxAttachment = (MaxPayload - 256<<10) * 3 / 4 // bytes of a file
	maxImage      = 6 << 20                        // bytes of a picture
)

const (
	mediaFolder = "media" // in the store's folder
	mediaScheme = "media://inbound/"
	maxFiles    = 100       // of a message, and kept in the folder
	maxMedia    = 200 << 20 // bytes of the folder's files; the oldest make room
)

// media is what the history says of a file.
type media struct {
	URL         string `json:"url"` // mediaScheme and its name on the disk
	ContentType string `json:"contentType"`
	Kind        string `json:"kind"`
	FileName    string `json:"fileName,omitempty"`
	SizeBytes   int    `json:"sizeBytes"`
}

// attachment is a file as it was sent.
type attachment struct {
	media
	data []byte
}

// attached decodes the files of a message; failed is why the message is refused.
func attached(raw []json.RawMessage) (list []attachment, failed string) {
	if len(raw) > maxFiles {
		return nil, fmt.Sprintf("Error: %d attachments, at most %d are accepted", len(raw), maxFiles)
	}
	for i, one := range raw {
		var a struct {
			FileName, MimeType string
			Content            *string
		}
		if json.Unmarshal(one, &a) != nil || a.Content == nil {
			continue // the original ignores it, too
		}
		label := cmp.Or(a.FileName, fmt.Sprintf("attachment-%d", i+1))
		size := base64.StdEncoding.DecodedLen(len(*a.Content))
		if size > maxAttachment+2 {
			return nil, fmt.Sprintf("Error: attachment %s: exceeds size limit (%d > %d bytes)", label, size, maxAttachment)
		}
		data, err := base64.StdEncoding.DecodeString(*a.Content)
		switch {
		case err != nil:
			return nil, fmt.Sprintf("Error: attachment %s: invalid base64 content", label)
		case len(data) == 0:
			return nil, fmt.Sprintf("UnsupportedAttachmentError: attachment %s: empty payload", label)
		}
		m := media{ContentType: typeOf(data, a.FileName, a.MimeType), Kind: "document", FileName: clipText(a.FileName, 255), SizeBytes: len(data)}
		if kind, _, _ := strings.Cut(m.ContentType, "/"); kind == "image" || kind == "audio" || kind == "video" {
			m.Kind = kind
		}
		if m.Kind == "image" && len(data) > maxImage {
			return nil, fmt.Sprintf("Error: attachment %s: image exceeds size limit (%d > %d bytes)", label, len(data), maxImage)
		}
		m.URL = mediaScheme + diskName(a.FileName, m.ContentType)
		list = append(list, attachment{m, data})
	}
	return list, ""
}

// typeOf returns a file's MIME type: of its contents if they are a picture, else as its name or its sender says.
func typeOf(data []byte, name, said string) string {
	if seen := http.DetectContentType(data); strings.HasPrefix(seen, "image/") {
		return seen
	}
	for _, t := range []string{mime.TypeByExtension(path.Ext(name)), said} {
		if t, _, err := mime.ParseMediaType(t); err == nil && !strings.HasPrefix(t, "image/") && len(t) <= 100 {
			return t
		}
	}
	return "application/octet-stream"
}

var unsafe = regexp.MustCompile(`[^\pL\pN._-]+`)

// diskName returns a new name, which begins like the file's own.
func diskName(name, kind string) string {
	end := path.Ext(name)
	if end == "" || len(end) > 16 || unsafe.MatchString(end[1:]) {
		end = ""
		if all, _ := mime.ExtensionsByType(kind); len(all) > 0 && name == "" {
			end = all[0]
		}
	}
	base := strings.Trim(clipText(unsafe.ReplaceAllString(strings.TrimSuffix(name, end), "_"), 80), ".")
	if base != "" {
		base += "---"
	}
	return base + strings.ToLower(rand.Text()) + end
}

// told lists files for a person.
func told(files []attachment) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "- `%s`, %s, %d bytes\n", strings.ReplaceAll(clipRunes(cmp.Or(f.FileName, "a file without a name"), 100), "`", "'"), f.ContentType, f.SizeBytes)
	}
	return b.String()
}

// sound reports whether the stand-in can have written it.
func (m media) sound() bool {
	name, ok := strings.CutPrefix(m.URL, mediaScheme)
	return ok && name != "" && len(name) <= 255 && !strings.Contains(name, "/") && len(m.ContentType) <= 100 && len(m.Kind) <= 20 &&
		len(m.FileName) <= 255 && utf8.ValidString(m.FileName) && m.SizeBytes >= 0
}

// file saves the files of a message.
func (s *store) file(files []attachment) error {
	if s == nil || len(files) == 0 {
		return nil
	}
	return s.inMedia(func(sh *shelf) error {
		room := 0
		for _, f := range files {
			room += len(f.data)
		}
		if err := sh.makeRoom(len(files), int64(room)); err != nil {
			return err
		}
		for _, f := range files {
			if err := sh.replace(strings.TrimPrefix(f.URL, mediaScheme), f.data); err != nil {
				return err
			}
		}
		return nil
	})
}

// unfile deletes the files of a session.
func (s *store) unfile(one *session) {
	if s == nil || !slices.ContainsFunc(one.messages, func(m message) bool { return m.Meta != nil && len(m.Meta.Media) > 0 }) {
		return
	}
	err := s.inMedia(func(sh *shelf) error {
		var failed error
		for _, m := range one.messages {
			for _, f := range m.Meta.Media {
				if err := sh.Remove(strings.TrimPrefix(f.URL, mediaScheme)); !errors.Is(err, fs.ErrNotExist) {
					failed = errors.Join(failed, err)
				}
			}
		}
		return failed
	})
	if err != nil {
		s.log.Warn("deleting the files of a session failed", "err", err)
	}
}

func (s *store) inMedia(do func(*shelf) error) error {
	home, err := s.open()
	if err != nil {
		return err
	}
	defer home.Close()
	sh, err := home.folder(mediaFolder)
	if err != nil {
		return err
	}
	return errors.Join(do(sh), sh.Close())
}

// makeRoom deletes the oldest files, until so many more fit.
func (sh *shelf) makeRoom(count int, size int64) error {
	dir, err := sh.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, _ := dir.ReadDir(10 * maxFiles)
	var kept []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			kept = append(kept, info)
			size += info.Size()
		}
	}
	slices.SortFunc(kept, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for len(kept) > 0 && (len(kept)+count > maxFiles || size > maxMedia) {
		if err := sh.RemoveAll(kept[0].Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		size -= kept[0].Size()
		kept = kept[1:]
	}
	return nil
}
