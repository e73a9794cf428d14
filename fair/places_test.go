package fair_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/cloudbot-ai/control-plane/fair"
)

func TestByAddress(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"192.0.2.7":                "[{x|192.0.2.7/32 1} {x|192.0.2.0/24 3}]",
		"::ffff:192.0.2.7":         "[{x|192.0.2.7/32 1} {x|192.0.2.0/24 3}]",
		"2001:db8:1:203::9":        "[{x|2001:db8:1:203::/64 1} {x|2001:db8:1:200::/56 2} {x|2001:db8:1::/48 3}]",
		"fe80::1%eth0":             "[{x|fe80::/64 1} {x|fe80::/56 2} {x|fe80::/48 3}]",
		"2001:db8:1:2ff:ffff::abc": "[{x|2001:db8:1:2ff::/64 1} {x|2001:db8:1:200::/56 2} {x|2001:db8:1::/48 3}]",
	} {
		if got := fmt.Sprint(fair.ByAddress("x", netip.MustParseAddr(addr), 1, 2, 3)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := fmt.Sprint(fair.ByAddress("x", netip.Addr{}, 1, 2, 3)); got != "[{x|unknown 1}]" {
		t.Errorf("got %s, want [{x|unknown 1}]", got)
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	p := fair.NewPlaces(4)
	a, b := fair.Claim{Key: "a", Max: 2}, fair.Claim{Key: "b", Max: 3}
	leave, v := p.Take(a, b)
	if v != fair.Taken {
		t.Fatalf("got verdict %v, want %v", v, fair.Taken)
	}
	if _, v := p.Take(a); v != fair.Taken {
		t.Errorf("got verdict %v, want %v", v, fair.Taken)
	}
	if l, v := p.Take(b, a); v != fair.ShareFull || l != nil {
		t.Errorf("a third place under a claim of two: got verdict %v, want %v", v, fair.ShareFull)
	}
	for range 2 {
		if _, v := p.Take(b); v != fair.Taken {
			t.Errorf("got verdict %v, want %v", v, fair.Taken)
		}
	}
	if l, v := p.Take(); v != fair.Full || l != nil {
		t.Errorf("a fifth place of four: got verdict %v, want %v", v, fair.Full)
	}
	leave()
	leave() // once counts
	if places, keys := p.Used(); places != 3 || keys != 2 {
		t.Errorf("got %d places under %d keys, want 3 under 2", places, keys)
	}
	if _, v := p.TakeN(2, b); v != fair.ShareFull {
		t.Errorf("two more under a claim of three that has two: got verdict %v, want %v", v, fair.ShareFull)
	}
	if _, v := p.TakeN(2); v != fair.Full {
		t.Errorf("two places where one is left: got verdict %v, want %v", v, fair.Full)
	}
	if _, v := p.Take(a, b); v != fair.Taken {
		t.Errorf("a place that was given back: got verdict %v, want %v", v, fair.Taken)
	}
}
