package idle_test

import (
	"errors"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/idle"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	now := at("12:00")
	for name, c := range map[string]struct {
		change func(*idle.Policy)
		field  string // "": allowed
		says   string
	}{
		"the default":             {func(*idle.Policy) {}, "", ""},
		"no limits":               {func(p *idle.Policy) { p.After, p.Warn, p.Ceiling = 0, 0, 0 }, "", ""},
		"the shortest":            {func(p *idle.Policy) { p.After, p.Warn, p.Ceiling = 300, 225, 300 }, "", ""},
		"too short":               {func(p *idle.Policy) { p.After = 299 }, "after_s", "A desktop may be idle for 5 minutes to 7 days, or without limit (0)."},
		"too long":                {func(p *idle.Policy) { p.After = 7*86400 + 1 }, "after_s", ""},
		"negative":                {func(p *idle.Policy) { p.After = -1 }, "after_s", ""},
		"a low ceiling":           {func(p *idle.Policy) { p.Ceiling = 3599 }, "ceiling_s", "The ceiling is at least the idle limit and at most 90 days, or there is none (0)."},
		"a high ceiling":          {func(p *idle.Policy) { p.Ceiling = 90*86400 + 1 }, "ceiling_s", ""},
		"a late warning":          {func(p *idle.Policy) { p.Warn = 3600 }, "warn_s", "The warning comes at most 1 hour before the stop, and after the first quarter of the limit."},
		"a warning at each pause": {func(p *idle.Policy) { p.After, p.Warn = 300, 226 }, "warn_s", ""},
		"one without a use":       {func(p *idle.Policy) { p.After, p.Warn, p.Ceiling = 0, 226, 300 }, "warn_s", ""},
		"a long warning":          {func(p *idle.Policy) { p.After, p.Warn = 7200, 3601 }, "warn_s", ""},
		"an early one":            {func(p *idle.Policy) { p.Warn = -1 }, "warn_s", ""},
		"kept too long":           {func(p *idle.Policy) { p.KeepUntil = now.Add(91 * 24 * time.Hour) }, "keep_until", "A desktop can be kept running for at most 90 days."},
		"an unknown wish":         {func(p *idle.Policy) { p.Jobs = "dream" }, "jobs", ""},
	} {
		p := idle.Default()
		c.change(&p)
		err := p.Check(5*time.Minute, now)
		var refused *domain.Error
		if c.field == "" {
			if err != nil {
				t.Errorf("%s: got %v, want no error", name, err)
			}
		} else if !errors.As(err, &refused) || refused.Field != c.field || c.says != "" && refused.Msg != c.says {
			t.Errorf("%s: got %v, want a refusal of %s: %s", name, err, c.field, c.says)
		}
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	a, b := idle.Default(), idle.Default()
	a.KeepUntil, b.KeepUntil = at("12:00"), at("12:00").In(time.FixedZone("", 3600))
	c := a
	c.After++
	for _, x := range []struct {
		a, b *idle.Policy
		want bool
	}{{nil, nil, true}, {&a, nil, false}, {nil, &a, false}, {&a, &b, true}, {&a, &c, false}} {
		if got := idle.Same(x.a, x.b); got != x.want {
			t.Errorf("%v, %v: got %v, want %v", x.a, x.b, got, x.want)
		}
	}
}
