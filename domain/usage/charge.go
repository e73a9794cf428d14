package usage

import (
	"cmp"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Minimum is what each run counts at least.
const Minimum = time.Minute

// MonthOfDisk is the month of a disk's price.
const MonthOfDisk = 30 * 24 * time.Hour

// Charge returns what usage costs from a time until before another, by desktop, UTC day and kind, in that order. Intervals
// that are open count until now. Charges of adjoining periods add up to that of the whole, except that each row is rounded
// down.
func (p *Prices) Charge(u Usage, from, to, now time.Time) []Row {
	from, to, now = micro(from), micro(to), micro(now)
	c := charges{prices: p, rows: map[rowKey]*sum{}}
	for _, i := range u.Intervals {
		c.add(i, domain.Later(i.From, from), domain.Earlier(i.until(now), to))
	}
	for _, m := range u.Models {
		if !m.Day.Before(from) && m.Day.Before(to) {
			s := c.row(m.Instance, m.Account, m.Type, Model, m.Day)
			s.Micros += m.Micros
		}
	}
	return c.list()
}

// until returns up to when an interval is charged, without regard to a period.
func (i Interval) until(now time.Time) time.Time {
	end := i.To
	if i.End == Open {
		end = now
	}
	if i.Kind == Compute && end.Before(i.From.Add(Minimum)) && !i.From.After(now) {
		end = i.From.Add(Minimum)
	}
	return end
}

type rowKey struct {
	instance string
	day      int64 // its number
	kind     Kind
}

// sum is a row whose price is not divided yet: of microseconds times micro-dollars, in 128 bits.
type sum struct {
	Row
	product
	latest time.Time // when its type began
}

// product is microseconds times micro-dollars.
type product struct{ high, low uint64 }

type charges struct {
	prices *Prices
	rows   map[rowKey]*sum
}

func (c *charges) row(instance, account, machineType string, kind Kind, day time.Time) *sum {
	key := rowKey{instance, day.Unix() / 86400, kind}
	s := c.rows[key]
	if s == nil {
		s = &sum{Row: Row{Instance: instance, Account: account, Day: day, Kind: kind, Type: machineType, Priced: true}}
		c.rows[key] = s
	}
	return s
}

// add charges an interval between two times, day by day. Prices change at midnight only.
func (c *charges) add(i Interval, from, to time.Time) {
	for from.Before(to) {
		day := Day(from)
		until := domain.Earlier(to, day.AddDate(0, 0, 1))
		took := until.Sub(from)
		s := c.row(i.Instance, i.Account, i.Type, i.Kind, day)
		s.Time += took
		if i.End == Seen {
			s.Seen += took
		}
		if !i.From.Before(s.latest) {
			s.latest, s.Type = i.From, i.Type
		}
		price, priced := c.prices.price(i, day)
		s.Priced = s.Priced && priced
		s.count(took, price)
		from = until
	}
}

// price returns the price of an interval's unit of time: an hour, or a month of a whole disk.
func (p *Prices) price(i Interval, day time.Time) (micros int64, ok bool) {
	switch i.Kind {
	case Compute:
		return p.Hourly(i.Region, i.Type, day)
	case Address:
		return p.AddressHourly(i.Region, day)
	case Disk:
		return p.DiskMonth(i.Region, i.GiB, day)
	}
	return 0, false
}

func (s *product) count(took time.Duration, price int64) {
	high, low := bits.Mul64(uint64(took.Microseconds()), uint64(price))
	var carry uint64
	s.low, carry = bits.Add64(s.low, low, 0)
	s.high, _ = bits.Add64(s.high, high, carry)
}

// micros returns the micro-dollars of a kind's product.
func (s product) micros(k Kind) int64 {
	micros, _ := bits.Div64(s.high, s.low, k.unit())
	return int64(micros)
}

// unit returns the microseconds that a price is for.
func (k Kind) unit() uint64 {
	if k == Disk {
		return uint64(MonthOfDisk.Microseconds())
	}
	return uint64(time.Hour.Microseconds())
}

func (c *charges) list() []Row {
	rows := make([]Row, 0, len(c.rows))
	for s := range maps.Values(c.rows) {
		if s.Kind != Model {
			s.Micros = s.micros(s.Kind)
		}
		rows = append(rows, s.Row)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(strings.Compare(a.Instance, b.Instance), a.Day.Compare(b.Day), cmp.Compare(a.Kind.rank(), b.Kind.rank()))
	})
	return rows
}

func (k Kind) rank() int { return slices.Index(Kinds[:], k) }

// micro returns a time as Postgres keeps it.
func micro(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Microsecond)
}
