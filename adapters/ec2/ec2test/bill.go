package ec2test

import (
	"math/big"
	"strconv"
	"time"
)

// Bill is what a machine costs its account, by this server's own states and prices.
type Bill struct {
	Machine string
	Tags    map[string]string
	Runs    []Run
	Created time.Time
	Deleted time.Time // of its disk; zero: it exists
	Compute *big.Rat  // dollars
	Disk    *big.Rat
	Address *big.Rat
}

// Run is a time in the state running: from the end of pending until it is stopping or shutting down.
type Run struct {
	From, To time.Time // To is zero while it runs
	Said     bool      // it ended with a stop, and answers say when
}

// Dollars of an hour, by type. This server has a price list of its own, so that a test compares two.
var tariff = map[string]string{
	"t3.large": "0.0832", "t3a.large": "0.0752", "t3.medium": "0.0416", "t3a.medium": "0.0376", "t3.xlarge": "0.1664", "t3a.xlarge": "0.1504",
}

const (
	gibMonth    = "0.08"  // dollars of a GiB of disk in a month of 720 hours
	addressHour = "0.005" // dollars of an hour of a public address
)

// bill is what a machine has used so far.
type bill struct {
	created, deleted time.Time
	runs             []Run
}

func (b *bill) started(at time.Time) { b.runs = append(b.runs, Run{From: at}) }

func (b *bill) stopped(at time.Time) { b.runs[len(b.runs)-1].To = at }

// restore applies an entry of a ledger, which has no time of a boot's end: the run counts from its request.
func (b *bill) restore(e Entry) {
	runs := len(b.runs) > 0 && b.runs[len(b.runs)-1].To.IsZero()
	starts := e.Action == actRun || e.Action == actStart || e.Action == actReboot
	switch {
	case starts && !runs:
		b.started(e.Time)
	case !starts && runs:
		b.stopped(e.Time)
	}
	switch e.Action {
	case actRun:
		b.created = e.Time
	case actTerminate:
		b.deleted = e.Time
	}
}

// Bills returns the bill of each machine ever launched, up to now and in the order of their launch.
func (s *Server) Bills() (bills []Bill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	now := time.Now()
	for _, id := range sorted(s.machines) {
		m := s.machines[id]
		b := Bill{
			Machine: id, Tags: m.launch.Tags["instance"], Runs: append([]Run(nil), m.bill.runs...), Created: m.bill.created, Deleted: m.bill.deleted,
			Compute: new(big.Rat), Disk: new(big.Rat), Address: new(big.Rat),
		}
		for _, r := range b.Runs {
			seconds := until(r.To, now).Sub(r.From).Seconds()
			b.Compute.Add(b.Compute, cost(tariff[m.launch.Type], max(60, seconds)/3600))
			b.Address.Add(b.Address, cost(addressHour, seconds/3600))
		}
		hours := until(b.Deleted, now).Sub(b.Created).Hours()
		b.Disk = cost(gibMonth, hours/720*size(m.launch))
		bills = append(bills, b)
	}
	return bills
}

func cost(price string, units float64) *big.Rat {
	p, ok := new(big.Rat).SetString(price)
	if !ok {
		panic("ec2test: no price for this type")
	}
	return p.Mul(p, new(big.Rat).SetFloat64(units))
}

// size returns a machine's disk in GiB; without a wish, the image's own 8.
func size(l Launch) float64 {
	gib, err := strconv.Atoi(l.Volume["Ebs.VolumeSize"])
	if err != nil {
		return 8
	}
	return float64(gib)
}

func until(end, now time.Time) time.Time {
	if end.IsZero() {
		return now
	}
	return end
}
