package usage

import (
	"bytes"
	_ "embed" // the default price list
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// Local is the region, and the type, of machines that are processes of the server's own computer. They cost 0 unless the
// price list says otherwise.
const Local = "local"

// Prices is a price list. Parse, Load and Default return a valid one.
type Prices struct {
	Source   string    `json:"source"`   // where the prices are from, for people
	Date     string    `json:"date"`     // when they were read there: "2026-11-01"
	DiskGiB  int       `json:"disk_gib"` // of a disk whose size is not known
	Versions []Version `json:"versions"` // by date; a later one leaves earlier usage as it is
}

// Version holds the prices from a UTC day on.
type Version struct {
	From    string            `json:"from"` // "2026-11-01"
	Regions map[string]Region `json:"regions"`

	from time.Time
}

// Region holds the prices of one region, in micro-dollars. Only those of Local may leave out Disk and Address, which are 0 then.
type Region struct {
	Hourly  map[string]int64 `json:"hourly_micros"`         // of a running machine, by type
	Disk    *int64           `json:"disk_gib_month_micros"` // a month has 30 days
	Address *int64           `json:"address_hourly_micros"` // of a public address
}

//go:embed prices.json
var embedded []byte

// Default returns the embedded price list.
func Default() *Prices {
	p, err := Parse(embedded)
	if err != nil {
		panic(err)
	}
	return p
}

// Load returns the price list in a file; "": the embedded one.
func Load(path string) (*Prices, error) {
	if path == "" {
		return Default(), nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the price list: %w", err)
	}
	p, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Limits of a price list. What 10,000 desktops cost in a month is below what an int64 holds.
const (
	maxPrice = 10_000_000_000 // ten thousand dollars
	maxGiB   = 1 << 16        // the largest disk of EBS
)

// Parse reads a price list and checks it. Its errors say what to correct.
func Parse(text []byte) (*Prices, error) {
	var p Prices
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("not a price list: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a price list: there is text after its end")
	}
	return &p, p.check()
}

func (p *Prices) check() error {
	switch _, err := time.Parse(time.DateOnly, p.Date); {
	case p.Source == "":
		return errors.New("source is missing: say where the prices are from")
	case err != nil:
		return fmt.Errorf("date %q is not a date such as 2026-11-01", p.Date)
	case p.DiskGiB <= 0 || p.DiskGiB > maxGiB:
		return fmt.Errorf("disk_gib must be from 1 to %d", maxGiB)
	case len(p.Versions) == 0:
		return errors.New("versions is empty")
	}
	for i := range p.Versions {
		v := &p.Versions[i]
		from, err := time.Parse(time.DateOnly, v.From)
		switch {
		case err != nil:
			return fmt.Errorf("versions[%d].from %q is not a date such as 2026-11-01", i, v.From)
		case i > 0 && !from.After(p.Versions[i-1].from):
			return fmt.Errorf("versions[%d].from %q is not after the version before", i, v.From)
		case len(v.Regions) == 0:
			return fmt.Errorf("versions[%d].regions is empty", i)
		}
		v.from = from
		for name, r := range v.Regions {
			if err := r.check(name); err != nil {
				return fmt.Errorf("versions[%d].regions[%q]: %w", i, name, err)
			}
		}
	}
	return nil
}

func (r Region) check(region string) error {
	prices := map[string]int64{}
	for name, micros := range r.Hourly {
		prices["hourly_micros of "+name] = micros
	}
	for what, micros := range map[string]*int64{"disk_gib_month_micros": r.Disk, "address_hourly_micros": r.Address} {
		switch {
		case micros != nil:
			prices[what] = *micros
		case region != Local: // left out, it would be free without a word
			return fmt.Errorf("%s is missing; give 0 if it is free", what)
		}
	}
	for what, micros := range prices {
		if micros < 0 || micros > maxPrice {
			return fmt.Errorf("%s must be from 0 to %d", what, int64(maxPrice))
		}
	}
	return nil
}

// at returns the prices of a region at a time. ok is false if the list has none.
func (p *Prices) at(region string, at time.Time) (r Region, ok bool) {
	i, _ := slices.BinarySearchFunc(p.Versions, at, func(v Version, at time.Time) int {
		if v.from.After(at) {
			return 1
		}
		return -1
	})
	if i > 0 {
		r, ok = p.Versions[i-1].Regions[region]
	}
	return r, ok || region == Local
}

// Hourly returns what a type costs an hour while it runs, in micro-dollars and without its public address. ok is false if
// the list has no price for it.
func (p *Prices) Hourly(region, machineType string, at time.Time) (micros int64, ok bool) {
	r, _ := p.at(region, at)
	micros, ok = r.Hourly[machineType]
	return micros, ok || region == Local
}

// AddressHourly returns what a public address costs an hour, in micro-dollars.
func (p *Prices) AddressHourly(region string, at time.Time) (micros int64, ok bool) {
	r, ok := p.at(region, at)
	return amount(r.Address), ok
}

// DiskGiBMonth returns what a GiB of disk costs a month of 30 days, in micro-dollars.
func (p *Prices) DiskGiBMonth(region string, at time.Time) (micros int64, ok bool) {
	r, ok := p.at(region, at)
	return amount(r.Disk), ok
}

// DiskMonth returns what a disk costs a month of 30 days, in micro-dollars. gib is its size; 0: the list's default.
func (p *Prices) DiskMonth(region string, gib int, at time.Time) (micros int64, ok bool) {
	r, ok := p.at(region, at)
	return amount(r.Disk) * int64(p.gib(gib)), ok
}

func amount(micros *int64) int64 {
	if micros == nil {
		return 0
	}
	return *micros
}

func (p *Prices) gib(gib int) int {
	if gib <= 0 || gib > maxGiB {
		return p.DiskGiB
	}
	return gib
}
