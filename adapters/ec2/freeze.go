package ec2

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

const (
	maxUserData  = 16 << 10 // EC2's limit, in bytes
	roomForToken = 512      // bytes that the enrolment token may add
)

// Freeze implements machines.Cloud. It fixes the whole request, in the first place that is not known to be full.
func (c *Cloud) Freeze(a machines.LaunchPlan) (instance.Spec, error) {
	i := slices.IndexFunc(c.cfg.Types, func(t Type) bool { return t.ID == a.Type })
	if i < 0 {
		return instance.Spec{}, refused(instance.Never, "unknown_instance_type",
			"This instance type is no longer offered; create an instance of another type.", fmt.Errorf("type %q is not configured", a.Type))
	}
	if a.ClientToken == "" || len(a.ClientToken) > 64 {
		return instance.Spec{}, fmt.Errorf("freeze a launch: got a client token of %d characters, want 1 to 64", len(a.ClientToken))
	}
	image, err := c.frozen()
	if err != nil {
		return instance.Spec{}, err
	}
	userData, err := c.cfg.UserData(a)
	if err != nil {
		return instance.Spec{}, fmt.Errorf("render user data: %w", err)
	}
	if len(userData) > maxUserData-roomForToken {
		return instance.Spec{}, refused(instance.Never, codeBadUserData, saysBadUserData,
			fmt.Errorf("user data has %d bytes, more than %d", len(userData), maxUserData-roomForToken))
	}
	if table[a.Refused].full && a.Last.Type != "" {
		c.full.note(place{a.Last.Type, a.Last.Subnet}, time.Now()) // another replica may have got that answer
	}
	at := c.full.first(c.places(c.cfg.Types[i]), time.Now())
	return instance.Spec{
		ClientToken: a.ClientToken, Image: c.cfg.Image, Type: at.machineType, Region: c.cfg.Region,
		Subnet: at.subnet, SecurityGroup: c.cfg.SecurityGroup, KeyPair: c.cfg.KeyPair,
		RootDevice: image.Root, VolumeGiB: c.cfg.VolumeGiB, UserData: userData,
		Tags: map[string]string{
			"Name":         "cloudbot-" + a.Instance,
			TagEnvironment: c.cfg.Environment,
			TagInstance:    a.Instance,
			TagAttempt:     strconv.Itoa(a.Attempt),
			TagAccount:     a.Account,
		},
	}, nil
}

// place is a type and subnet in which a machine can be made.
type place struct{ machineType, subnet string }

// places lists the places for a machine of a type: the type itself in every subnet, then its alternatives.
func (c *Cloud) places(t Type) []place {
	var list []place
	for _, id := range append([]string{t.ID}, t.Instead...) {
		for _, subnet := range c.cfg.Subnets {
			list = append(list, place{id, subnet})
		}
	}
	return list
}

// Attempts returns how many launches it takes to try every place of a type once.
func (c *Cloud) Attempts() int {
	most := 0
	for _, t := range c.cfg.Types {
		most = max(most, len(c.places(t)))
	}
	return most
}

// fullFor is how long a place is avoided after EC2 said it is full.
const fullFor = 10 * time.Minute

// full remembers places without capacity.
type full struct {
	mu    sync.Mutex
	until map[place]time.Time
}

func (f *full) note(p place, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until[p] = now.Add(fullFor)
}

// first returns the first place not known to be full, else the one that was full longest ago.
func (f *full) first(places []place, now time.Time) place {
	f.mu.Lock()
	defer f.mu.Unlock()
	best := places[0]
	for _, p := range places {
		if until, known := f.until[p]; !known || !until.After(now) {
			return p
		}
		if f.until[p].Before(f.until[best]) {
			best = p
		}
	}
	return best
}

// all reports whether every place is known to be full.
func (f *full) all(places []place, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !slices.ContainsFunc(places, func(p place) bool { return !f.until[p].After(now) })
}
