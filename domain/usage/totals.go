package usage

import (
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Totals returns what each desktop of a usage costs: the sums of Charge's rows, for lists, which show no rows. Unlike Charge it
// wants each desktop's intervals next to each other.
func (p *Prices) Totals(u Usage, from, to, now time.Time) map[string]int64 {
	from, to, now = micro(from), micro(to), micro(now)
	totals := make(map[string]int64)
	t := tally{prices: p}
	for n, i := range u.Intervals {
		t.add(i, domain.Later(i.From, from), domain.Earlier(i.until(now), to))
		if n+1 == len(u.Intervals) || u.Intervals[n+1].Instance != i.Instance {
			totals[i.Instance] += t.close()
		}
	}
	for _, m := range u.Models {
		if !m.Day.Before(from) && m.Day.Before(to) {
			totals[m.Instance] += m.Micros
		}
	}
	return totals
}

// tally has the sums of one desktop, which are rounded by day and kind.
type tally struct {
	prices *Prices
	sums   []daySum
}

type daySum struct {
	day  int64 // its number
	kind Kind
	product
}

const secondsDay = int64(24 * time.Hour / time.Second)

func (t *tally) add(i Interval, from, to time.Time) {
	if !from.Before(to) {
		return
	}
	price, _ := t.prices.price(i, from)
	steady, first := t.prices.steady(from, to), len(t.sums) == 0
	for number := from.Unix() / secondsDay; from.Before(to); number++ {
		if !steady {
			price, _ = t.prices.price(i, from)
		}
		until := domain.Earlier(to, time.Unix((number+1)*secondsDay, 0).UTC())
		t.of(number, i.Kind, first).count(until.Sub(from), price)
		from = until
	}
}

// of returns the sum of a day and kind. The first interval of a desktop finds none of its own. Most others follow each other.
func (t *tally) of(number int64, kind Kind, first bool) *product {
	for n := len(t.sums) - 1; n >= 0 && !first; n-- {
		if s := &t.sums[n]; s.day == number && s.kind == kind {
			return &s.product
		}
	}
	t.sums = append(t.sums, daySum{day: number, kind: kind})
	return &t.sums[len(t.sums)-1].product
}

// close returns the total and begins with the next desktop.
func (t *tally) close() (total int64) {
	for _, s := range t.sums {
		total += s.micros(s.kind)
	}
	t.sums = t.sums[:0]
	return total
}

// steady reports whether the same prices apply all the time.
func (p *Prices) steady(from, to time.Time) bool {
	for _, v := range p.Versions {
		if v.from.After(from) && v.from.Before(to) {
			return false
		}
	}
	return true
}
