package assets

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, source Source, name, kind string, info Info) {
	setSum(w.Header(), info.SHA256)
	w.Header().Set("Content-Type", kind)
	w.Header().Set("ETag", `"`+info.SHA256+`"`)
	w.Header().Set("Cache-Control", "public, no-cache") // revalidated each time: the content under a name changes
	body := &body{ctx: r.Context(), source: source, name: name, info: info}
	defer body.Close()
	http.ServeContent(w, r, "", info.Modified, body)
	if body.err != nil && r.Context().Err() == nil {
		h.c.Logger.ErrorContext(r.Context(), "sending an asset failed", "asset", name, "err", body.err)
	}
}

func (h *Handler) serveSum(w http.ResponseWriter, r *http.Request, name string, info Info) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("ETag", `"sum-`+info.SHA256+`"`)
	w.Header().Set("Cache-Control", "public, no-cache")
	http.ServeContent(w, r, "", info.Modified, strings.NewReader(info.SHA256+"  "+name+"\n"))
}

// setSum sets headers with the sum of the whole asset, for any range: in hex for people, and as in RFC 9530.
func setSum(header http.Header, sum string) {
	header.Set("X-Checksum-Sha256", sum)
	if b, err := hex.DecodeString(sum); err == nil {
		header.Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(b)+":")
	}
}

// body is an asset as an io.ReadSeeker for http.ServeContent. The first read opens the source, at its offset.
type body struct {
	ctx    context.Context
	source Source
	name   string
	info   Info
	at     int64
	open   io.ReadCloser
	err    error // the first error of reading
}

func (b *body) Read(p []byte) (int, error) {
	if b.at >= b.info.Size {
		return 0, io.EOF
	}
	if b.open == nil {
		if b.open, b.err = b.source.Open(b.ctx, b.name, b.info.Tag, b.at); b.err != nil {
			return 0, b.err
		}
	}
	n, err := b.open.Read(p)
	b.at += int64(n)
	if err == io.EOF && b.at < b.info.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.info.Size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	if offset != b.at {
		b.Close()
		b.at = offset
	}
	return offset, nil
}

func (b *body) Close() error {
	if b.open == nil {
		return nil
	}
	err := b.open.Close()
	b.open = nil
	return err
}

// sumTime is how long the first reader of a large asset may wait for its sum.
const sumTime = 2 * time.Minute

var errChanged = errors.New("the asset changed while it was read")
