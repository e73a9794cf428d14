package postgres

import (
	"context"

	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Version implements eventstore.Store. It reads only the index, so a damaged row does not matter.
func (s *Store) Version(ctx context.Context, stream eventstore.StreamID) (version int64, err error) {
	key := indexKey(stream.String())
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM log.entries WHERE stream_key = $1`, key).Scan(&version)
	if err != nil {
		return 0, unavailable("read version", err)
	}
	return version, nil
}
