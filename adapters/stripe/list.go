package stripe

import (
	"context"
	"fmt"

	"github.com/stripe/stripe-go/v85"
)

// pageSize is how many objects a page has; Stripe has no larger ones.
const pageSize = 100

// pages calls do with each page of a list.
func pages[S, T any](ctx context.Context, c *Client, params *stripe.ListParams, get func(context.Context) *stripe.V1List[S],
	id func(S) string, read func(S) (T, error), do func([]T) error,
) error {
	params.Limit, params.Single = stripe.Int64(pageSize), true
	for {
		page, err := list(ctx, c, get)
		if err != nil {
			return err
		}
		found, err := each(page.Data(), read)
		if err != nil {
			return err
		}
		if err := do(found); err != nil {
			return err
		}
		if !page.Meta().HasMore || len(found) == 0 {
			return nil
		}
		last := id(page.Data()[len(found)-1])
		if last == "" { // the next page would be the first one again
			return fmt.Errorf("%w: an object of a list has no id", errAnswer)
		}
		params.StartingAfter = stripe.String(last)
	}
}

// list returns one page.
func list[S any](ctx context.Context, c *Client, get func(context.Context) *stripe.V1List[S]) (*stripe.V1List[S], error) {
	return call(ctx, c, func(ctx context.Context) (*stripe.V1List[S], error) {
		page := get(ctx)
		return page, page.Err()
	})
}

func each[S, T any](all []S, read func(S) (T, error)) ([]T, error) {
	found := make([]T, len(all))
	for i, s := range all {
		var err error
		if found[i], err = read(s); err != nil {
			return nil, err
		}
	}
	return found, nil
}
