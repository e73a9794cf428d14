package backup

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
)

// Verify reads a whole backup and compares every checksum, size and count with the manifest.
func Verify(ctx context.Context, from Source, m Manifest, progress func(table string, rows int64)) error {
	for _, t := range m.Tables {
		r := newReader(ctx, from, t)
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		if progress != nil {
			progress(t.Name, t.Rows)
		}
	}
	return nil
}

// reader yields the rows of a table, and checks them. At the end of each part it knows whether the part is the one
// that was written; at the end of the last one, whether the table is.
type reader struct {
	ctx   context.Context
	from  Source
	table Table
	next  int // part

	body  io.ReadCloser
	read  *counted // the compressed bytes of the current part
	plain *gzip.Reader
	all   hash.Hash
	rows  int64
	total int64
	bytes int64
}

func newReader(ctx context.Context, from Source, t Table) *reader {
	return &reader{ctx: ctx, from: from, table: t, all: sha256.New()}
}

// counted hashes and counts what is read through it.
type counted struct {
	io.Reader
	sum hash.Hash
	n   int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.sum.Write(b[:n])
	c.n += int64(n)
	return n, err
}

// Read implements io.Reader.
func (r *reader) Read(b []byte) (int, error) {
	for {
		if r.body == nil {
			if r.next == len(r.table.Parts) {
				return 0, r.finish()
			}
			if err := r.open(); err != nil {
				return 0, err
			}
		}
		n, err := r.plain.Read(b)
		r.all.Write(b[:n])
		r.rows += int64(bytes.Count(b[:n], []byte{'\n'}))
		r.bytes += int64(n)
		if r.bytes > r.table.Bytes {
			return 0, damaged(r.from, r.table.Name+" has more data than its manifest says")
		}
		if err == io.EOF {
			err = r.close()
		} else if err != nil {
			err = r.broken(err)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *reader) open() (err error) {
	part := r.table.Parts[r.next]
	r.body, err = r.from.Get(r.ctx, part.Name)
	if errors.Is(err, fs.ErrNotExist) {
		r.body = nil
		return damaged(r.from, part.Name+" is missing")
	}
	if err != nil {
		r.body = nil
		return err
	}
	// One byte more than there should be shows that the object is too long.
	r.read = &counted{Reader: io.LimitReader(r.body, part.Bytes+1), sum: sha256.New()}
	r.rows = 0
	if r.plain, err = gzip.NewReader(r.read); err != nil {
		return r.broken(err)
	}
	return nil
}

// close checks the part that was read.
func (r *reader) close() error {
	part := r.table.Parts[r.next]
	_, err := io.Copy(io.Discard, r.read)
	r.body.Close()
	r.body = nil
	switch {
	case err != nil:
		return fmt.Errorf("read %s of %s: %w", part.Name, r.from, err)
	case r.read.n != part.Bytes || hex.EncodeToString(r.read.sum.Sum(nil)) != part.SHA256:
		return damaged(r.from, part.Name+" has another checksum than its manifest says")
	case r.rows != part.Rows:
		return damaged(r.from, fmt.Sprintf("%s has %d rows, and its manifest says %d", part.Name, r.rows, part.Rows))
	}
	r.total += r.rows
	r.next++
	return nil
}

// broken returns why a part cannot be decompressed: it is damaged, or it could not be read.
func (r *reader) broken(err error) error {
	name := r.table.Parts[r.next].Name
	r.body.Close()
	r.body = nil
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, new(flate.CorruptInputError)) {
		return damaged(r.from, name+" is cut off or changed")
	}
	return fmt.Errorf("read %s of %s: %w", name, r.from, err)
}

// finish checks the whole table and returns io.EOF.
func (r *reader) finish() error {
	if r.total != r.table.Rows || r.bytes != r.table.Bytes || hex.EncodeToString(r.all.Sum(nil)) != r.table.SHA256 {
		return damaged(r.from, r.table.Name+" has other rows than its manifest says")
	}
	return io.EOF
}
