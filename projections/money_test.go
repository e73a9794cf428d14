package projections

import "testing"

func TestMoney(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		amount         int64
		currency, want string
	}{
		{1900, "usd", "19.00 USD"}, {5, "eur", "0.05 EUR"}, {-105, "usd", "-1.05 USD"}, {0, "chf", "0.00 CHF"}, {500, "jpy", "500 JPY"}, {1234, "kwd", "1.234 KWD"},
	} {
		if got := money(c.amount, c.currency); got != c.want {
			t.Errorf("%d %s: got %q, want %q", c.amount, c.currency, got, c.want)
		}
	}
}
