package activity_test

import (
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/activity"
	"github.com/cloudbot-ai/control-plane/domain/idle"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// fault has something happen to the schedule, now and then.
func (s *sim) fault(t *testing.T, now time.Time) {
	if s.r.IntN(24) > 0 {
		return
	}
	d := s.desks[s.r.IntN(len(s.desks))]
	running := d.status == instance.Running
	what := s.r.IntN(24)
	s.trace("fault %d of %s", what, d.id[20:])
	switch what {
	case 0, 1, 2: // a tunnel is lost, for a while or longer
		d.lose(now.Add(spread(s.r, []time.Duration{20 * time.Second, 5 * time.Minute, 20 * time.Minute}[s.r.IntN(3)])))
		s.tally.add("tunnels lost")
	case 3: // a replica is replaced: what it has not written is lost
		i := s.r.IntN(len(s.nodes))
		old := s.nodes[i]
		old.dead.Store(true)
		old.cancel()
		s.nodes[i] = s.newReplica()
		for _, d := range s.desks {
			if d.tunnel == old {
				d.lose(now.Add(time.Duration(1+s.r.IntN(30)) * time.Second))
			}
		}
		s.tally.add("replicas replaced")
	case 4: // a guest falls silent, or speaks again
		if d.silent = !d.silent; !d.silent {
			d.loose = now
		} else {
			s.tally.add("guests silent")
		}
	case 5: // a guest is restarted, and remembers nothing
		d.guest = remembered{}
		d.lose(now.Add(5 * time.Second))
		s.tally.add("guests restarted")
	case 6: // rows are lost
		if s.r.IntN(3) == 0 {
			s.table.wipe()
			s.wiped = now.Add(activity.BeatEvery) // without a keeper, only the next report makes the rows again
			s.tally.add("tables wiped")
		}
	case 7: // the database's clock is set
		if s.r.IntN(3) == 0 {
			by := spread(s.r, 2*time.Hour)
			if s.r.IntN(2) == 0 {
				by = -by
			}
			s.table.step(by)
			s.stepped = now.Add(activity.BeatEvery)
			s.tally.add("clock steps")
		}
	case 8: // the database does not answer
		if !s.down.Load() {
			s.down.Store(true)
			for _, d := range s.desks {
				d.loose = now.Add(3 * time.Minute)
			}
			s.brought = now.Add(time.Duration(5+s.r.IntN(150)) * time.Second)
			s.keeping = latest(s.keeping, s.brought)
			time.AfterFunc(s.brought.Sub(now), func() { s.down.Store(false) })
			s.tally.add("outages")
		}
	case 9: // the keeper is paused while it decides, and another one takes over
		old := s.keeper
		old.pause.Store(int64(spread(s.r, 4*time.Minute)))
		time.AfterFunc(10*time.Minute, old.cancel)
		s.keep(10 * time.Second)
		s.tally.add("keepers paused")
	case 10: // no keeper runs for a while
		s.keeper.cancel()
		s.keep(spread(s.r, 5*time.Minute))
		s.tally.add("keepers missing")
	case 11:
		s.behind.Store(!s.behind.Load())
	case 12:
		s.setPolicy(t)
		s.tally.add("policies changed")
	case 13: // a desktop gets its own policy, or loses it
		p := s.policy()
		own := &p
		if s.r.IntN(3) == 0 {
			own = nil
		}
		if _, err := s.users.SetPolicy(s.ctx, s.owner, d.id, own); err != nil {
			s.must(t, err)
		}
		d.changed = now
		s.tally.add("policies changed")
	case 14, 15:
		if !running || d.tunnel == nil {
			return
		}
		more := time.Duration(5+s.r.IntN(40)) * time.Minute
		_, err := s.users.Extend(s.ctx, s.owner, d.id, more)
		s.must(t, err)
		s.tally.add("extensions")
	case 16, 17, 18, 19: // its user opens it
		if d.status == instance.Stopped {
			_, err := s.world.Instances.Start(s.ctx, s.owner, d.id)
			s.must(t, err)
			s.tally.add("started by their user")
		}
	case 20:
		if running && s.r.IntN(4) == 0 {
			_, err := s.world.Instances.Stop(s.ctx, s.owner, d.id)
			s.must(t, err)
			s.tally.add("stopped by their user")
		}
	}
}

// policy draws a policy. A ceiling of the size of the idle limit makes both matter.
func (s *sim) policy() idle.Policy {
	p := idle.Policy{After: []int64{0, 300, 480, 720, 720}[s.r.IntN(5)], Ceiling: []int64{0, 1800, 2700, 3600}[s.r.IntN(4)], Jobs: []idle.Jobs{idle.Wake, idle.Sleep}[s.r.IntN(2)]}
	if p.After != 0 || p.Ceiling != 0 {
		p.Warn = []int64{0, 60, 120}[s.r.IntN(3)]
	}
	if s.r.IntN(6) == 0 {
		p.KeepUntil = time.Now().UTC().Add(spread(s.r, 30*time.Minute)).Truncate(time.Second)
	}
	return p
}

// setPolicy sets the account's policy.
func (s *sim) setPolicy(t *testing.T) {
	p := s.policy()
	_, err := s.users.SetAccountPolicy(s.ctx, s.owner, &p)
	s.must(t, err)
	for _, d := range s.desks {
		d.changed = time.Now()
	}
}
