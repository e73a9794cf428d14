package backup

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// partBytes is the compressed size at which a part ends, at the end of a row. A row has at most a few MiB. A part also
// ends when its rows have plainTimes as many bytes before compression.
const (
	partBytes  = 16 << 20
	plainTimes = 8
)

// parts receives a table's rows from COPY and writes them as compressed objects, of which one at a time is in memory.
type parts struct {
	ctx   context.Context
	to    Target
	limit int // 0: partBytes
	done  func(Part)

	table Table
	all   hash.Hash // of the rows
	text  bytes.Buffer
	zip   *gzip.Writer
	rows  int64 // in the current part
	plain int   // its bytes before compression
}

func newParts(ctx context.Context, to Target, name string, columns []string, limit int, done func(Part)) *parts {
	return &parts{ctx: ctx, to: to, limit: limit, done: done, table: Table{Name: name, Columns: columns, Parts: []Part{}}, all: sha256.New()}
}

// Write implements io.Writer. In COPY's text form each row ends with the only unescaped line end.
func (p *parts) Write(b []byte) (int, error) {
	if p.zip == nil {
		p.text.Reset()
		p.zip, _ = gzip.NewWriterLevel(&p.text, gzip.BestSpeed) // the level is valid
	}
	p.all.Write(b)
	if _, err := p.zip.Write(b); err != nil {
		return 0, err
	}
	p.rows += int64(bytes.Count(b, []byte{'\n'}))
	p.table.Bytes += int64(len(b))
	p.plain += len(b)
	if (p.text.Len() >= p.limit || p.plain >= plainTimes*p.limit) && len(b) > 0 && b[len(b)-1] == '\n' {
		if err := p.flush(); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// flush stores the current part.
func (p *parts) flush() error {
	if p.zip == nil {
		return nil
	}
	if err := p.zip.Close(); err != nil {
		return err
	}
	p.zip = nil
	sum := sha256.Sum256(p.text.Bytes())
	part := Part{
		Name: fmt.Sprintf("%s.%05d.gz", p.table.Name, len(p.table.Parts)+1), Rows: p.rows, Bytes: int64(p.text.Len()), SHA256: hex.EncodeToString(sum[:]),
	}
	if err := p.to.Put(p.ctx, part.Name, p.text.Bytes()); err != nil {
		return err
	}
	p.table.Parts = append(p.table.Parts, part)
	p.table.Rows += p.rows
	p.rows, p.plain = 0, 0
	if p.done != nil {
		p.done(part)
	}
	return nil
}

// end stores the last part and returns the table.
func (p *parts) end() (Table, error) {
	err := p.flush()
	p.table.SHA256 = hex.EncodeToString(p.all.Sum(nil))
	return p.table, err
}
