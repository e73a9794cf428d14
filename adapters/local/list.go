package local

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudbot-ai/control-plane/commands"
)

var _ commands.Inventory = (*Cloud)(nil)

// List implements commands.Inventory: every machine that the ledger knows, with the instance and the
// attempt that its ClientToken names.
func (c *Cloud) List(ctx context.Context) ([]commands.Tagged, error) {
	ids, err := c.ledger.all()
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	machines, err := c.Describe(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]commands.Tagged, 0, len(machines))
	for _, m := range machines {
		known, err := c.ledger.find(m.ID)
		if err != nil {
			return nil, fmt.Errorf("list machines: %w", err)
		}
		t := commands.Tagged{Machine: m, Token: known.ClientToken}
		if i := strings.LastIndexByte(known.ClientToken, '-'); i > 0 {
			if n, err := strconv.Atoi(known.ClientToken[i+1:]); err == nil {
				t.Instance, t.Attempt = known.ClientToken[:i], n
			}
		}
		list = append(list, t)
	}
	return list, nil
}
