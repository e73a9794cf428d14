package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/fair"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// Chats is the hub's port to the saved chats.
type Chats interface {
	// Save keeps the chats (a wire.SavedChats in JSON) that an instance's machine sent at a time.
	Save(ctx context.Context, account, instanceID string, at time.Time, chats []byte) error
}

const (
	copiesPerSecond = 1.0 / 5 // accepted from a machine, on average; a guest sends one in 10 s
	copiesBurst     = 4       // the last one before a stop comes right after another
	copyTime        = 20 * time.Second
	saveTime        = 10 * time.Second

	copiesAtOnce  = 32 // being received by this replica, each of up to 1 MiB
	copiesAccount = 4  // of them for one account
	copyRetry     = 5 * time.Minute
)

// keepChats receives the machine's newest chats and has them saved until ctx ends. It returns earlier if the guest cannot
// send them. Failures concern only the saved chats, never the tunnel.
func (t *tunnel) keepChats(ctx context.Context) {
	if t.h.c.Chats == nil {
		return
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		return
	}
	room := bucket{rate: copiesPerSecond, size: copiesBurst, tokens: copiesBurst, at: time.Now()}
	wait := retry.Backoff{First: time.Second, Max: copyRetry, Jitter: true}
	for ctx.Err() == nil {
		began := time.Now()
		conn, _, err := t.open(ctx, wire.Chats)
		if errors.Is(err, ErrNotReady) {
			return // an older guest; a newer one is always ready for this
		}
		if err == nil {
			err = t.receiveChats(ctx, conn, &room)
		}
		if ctx.Err() == nil {
			t.h.log.Info("stream of chats ended, will retry", "instance", t.instance, "err", err)
		}
		if time.Since(began) > time.Minute {
			wait.Reset()
		}
		if wait.Sleep(ctx) != nil {
			return
		}
	}
}

// receiveChats serves one stream until it ends.
func (t *tunnel) receiveChats(ctx context.Context, conn io.ReadWriteCloser, room *bucket) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	for {
		var head wire.ChatsHead
		if err := wire.ReadLine(conn, &head, wire.MaxChatsHead); err != nil {
			return err
		}
		if head.Bytes <= 0 || head.Bytes > wire.MaxChats {
			return fmt.Errorf("a copy of %d bytes", head.Bytes)
		}
		for !room.take(time.Now()) { // the guest waits for the answer to the copy before
			if err := retry.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		kept, err := t.receiveCopy(ctx, conn, head.Bytes)
		if err != nil {
			return err
		}
		if err := wire.WriteLine(conn, wire.ChatsKept{Kept: kept}, wire.MaxChatsHead); err != nil {
			return err
		}
	}
}

// receiveCopy receives a copy of n bytes and saves it. It reports whether it was kept, or need not be sent again; an error
// ends the stream.
func (t *tunnel) receiveCopy(ctx context.Context, conn io.Reader, n int) (kept bool, err error) {
	leave, err := t.copyPlace(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if d, ok := conn.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = d.SetReadDeadline(time.Now().Add(copyTime))
		defer func() { _ = d.SetReadDeadline(time.Time{}) }()
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(conn, text); err != nil {
		return false, err
	}
	at := t.h.now()
	chats, err := wire.ParseChats(text)
	if err != nil {
		return false, err
	}
	if text, err = json.Marshal(chats); err != nil { // only the known fields
		return false, err
	}
	if _, err := wire.ParseChats(text); err != nil { // it may have become longer, and could not be read
		return false, err
	}
	saving, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	err = t.h.c.Chats.Save(saving, t.account, t.instance, at, text)
	var refused *domain.Error
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &refused) && refused.Kind != domain.Unavailable:
		t.h.log.Info("chats not saved", "instance", t.instance, "code", refused.Code)
		return true, nil
	}
	if ctx.Err() == nil {
		t.h.log.Warn("saving chats failed, the guest will retry", "instance", t.instance, "err", err)
	}
	return false, nil
}

// copyPlace waits for a place to receive a copy.
func (t *tunnel) copyPlace(ctx context.Context) (leave func(), err error) {
	for {
		leave, v := t.h.copies.Take(fair.Claim{Key: "account " + t.account, Max: copiesAccount})
		if v == fair.Taken {
			return leave, nil
		}
		if err := retry.Sleep(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}
