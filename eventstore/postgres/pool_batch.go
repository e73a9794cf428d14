package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SendBatch is as Acquire. The connection is free again when the results are closed.
func (p *Pool) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	c, err := p.Acquire(ctx)
	if err != nil {
		return unsent{err}
	}
	return &sent{c.SendBatch(ctx, b), c}
}

// sent is the results of a batch, with its connection until they are closed.
type sent struct {
	pgx.BatchResults
	conn *pgxpool.Conn
}

func (s *sent) Close() error {
	err := s.BatchResults.Close()
	if s.conn != nil {
		s.conn.Release()
		s.conn = nil
	}
	return err
}

// unsent is the results of a batch for which there was no connection.
type unsent struct{ err error }

func (u unsent) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, u.err }
func (u unsent) Query() (pgx.Rows, error)         { return nil, u.err }
func (u unsent) QueryRow() pgx.Row                { return scanner(func(...any) error { return u.err }) }
func (u unsent) Close() error                     { return u.err }
func (u unsent) Tx() pgx.Tx                       { return nil }
