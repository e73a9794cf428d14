package local

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudbot-ai/control-plane/commands/machines"
)

var _ machines.Inventory = (*Cloud)(nil)

// List implements machines.Inventory. It returns every machine in the ledger, with the instance and attempt that its
// ClientToken names.
func (c *Cloud) List(ctx context.Context) ([]machines.Tagged, error) {
	ids, err := c.ledger.all()
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	present, err := c.Describe(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]machines.Tagged, 0, len(present))
	for _, m := range present {
		known, err := c.ledger.find(m.ID)
		if err != nil {
			return nil, fmt.Errorf("list machines: %w", err)
		}
		t := machines.Tagged{Machine: m, Token: known.ClientToken}
		if i := strings.LastIndexByte(known.ClientToken, '-'); i > 0 {
			if n, err := strconv.Atoi(known.ClientToken[i+1:]); err == nil {
				t.Instance, t.Attempt = known.ClientToken[:i], n
			}
		}
		list = append(list, t)
	}
	return list, nil
}
