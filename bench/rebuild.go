package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/oklog/ulid/v2"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/projections"
)

// rebuildBar is in events a second of processor time, of this process and the backends together.
const rebuildBar = 150_000

// benchRebuilds measures the rebuild of the instances with growing logs, up to -events.
func benchRebuilds(ctx context.Context, _ *lab, o options) error {
	for _, events := range []int{50_000, 200_000, 1_000_000} {
		if events <= o.events {
			of := o
			of.events = 4 * events // benchRebuild takes a quarter
			if err := benchRebuild(ctx, of); err != nil {
				return err
			}
		}
	}
	return nil
}

// benchRebuild measures how fast the read model of the instances is rebuilt from the log: once where
// each life is written in one go, and once where all lives go forward together, so that every batch of
// the rebuild touches as many rows as it has events.
func benchRebuild(ctx context.Context, o options) error {
	fmt.Println("\n| read model | events | lives | rebuilt | backend µs | client µs | events a CPU second | bar |")
	fmt.Println("|---|---:|---:|---:|---:|---:|---:|---|")
	for _, together := range []bool{false, true} {
		err := inLab(ctx, func(l *lab) error {
			store, err := l.open(ctx)
			if err != nil {
				return err
			}
			defer store.Close()
			lives := o.events / 4 / len(life("", time.Now()))
			events, err := fillLives(ctx, store, lives, together)
			if err != nil {
				return err
			}
			if _, err := l.pool.Exec(ctx, `VACUUM ANALYZE log.entries`); err != nil {
				return err
			}
			model, err := projections.Find("instances")
			if err != nil {
				return err
			}
			var rates, server, client []float64
			for range o.runs {
				backends, err := l.backends(ctx)
				if err != nil {
					return err
				}
				begun, own := time.Now(), ownCPU()
				at, err := projections.Rebuild(ctx, l.pool, store, model, nil)
				if err != nil {
					return err
				}
				rates = append(rates, float64(at)/time.Since(begun).Seconds())
				client = append(client, float64((ownCPU()-own).Microseconds())/float64(at))
				after, err := l.backends(ctx)
				if err != nil {
					return err
				}
				server = append(server, float64((after-backends).Microseconds())/float64(at))
			}
			var rows int
			if err := l.pool.QueryRow(ctx, `SELECT count(*) FROM read.instances WHERE status = 'terminated' AND machine = ''`).Scan(&rows); err != nil {
				return err
			}
			if rows != lives {
				return fmt.Errorf("got %d terminated instances, want %d", rows, lives)
			}
			name := "instances, one life after another"
			if together {
				name = "instances, all lives together"
			}
			perSecond := 1e6 / (median(server) + median(client))
			fmt.Printf("| %s | %d | %d | %.0f/s | %.1f | %.1f | **%.0f** | %d %s |\n", name, events, lives, median(rates), median(server), median(client),
				perSecond, rebuildBar, verdict(perSecond >= rebuildBar))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// backends is the processor time that the database's connections have had.
func (l *lab) backends(ctx context.Context) (total time.Duration, err error) {
	rows, err := l.pool.Query(ctx, `SELECT pid FROM pg_stat_activity WHERE datname = current_database()`)
	if err != nil {
		return 0, err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	for _, pid := range pids {
		total += onCPU(pid)
	}
	return total, err
}

// fillLives appends the lives of n instances and returns how many events they have.
func fillLives(ctx context.Context, store eventstore.Store, n int, together bool) (events int, err error) {
	var all [][]eventstore.NewEvent
	var streams []eventstore.StreamID
	for range n {
		account := ulid.Make().String()
		var list []eventstore.NewEvent
		for _, e := range life(account, time.Now()) {
			name, schema, data, err := instance.Codec.Encode(e)
			if err != nil {
				return 0, err
			}
			list = append(list, eventstore.NewEvent{
				ID: ulid.Make().String(), Type: name, Schema: schema, Time: time.Now(), Data: data,
				Meta: eventstore.Metadata{Actor: account},
			})
		}
		all, events = append(all, list), events+len(list)
		streams = append(streams, eventstore.StreamID{Aggregate: "instance", ID: ulid.Make().String()})
	}
	if !together {
		whole := eventstore.MaxAppendEvent / len(all[0]) // lives of an append
		for i := 0; i < n; i += whole {
			var a eventstore.Append
			for k := i; k < min(n, i+whole); k++ {
				a.Writes = append(a.Writes, eventstore.Write{Stream: streams[k], Events: all[k]})
			}
			if _, err := store.Append(ctx, a); err != nil {
				return 0, err
			}
		}
		return events, nil
	}
	for version := range all[0] {
		for i := 0; i < n; i += eventstore.MaxAppendEvent {
			var a eventstore.Append
			for k := i; k < min(n, i+eventstore.MaxAppendEvent); k++ {
				a.Writes = append(a.Writes, eventstore.Write{Stream: streams[k], Expected: int64(version), Events: all[k][version : version+1]})
			}
			if _, err := store.Append(ctx, a); err != nil {
				return 0, err
			}
		}
	}
	return events, nil
}

// life is what an instance of an account goes through: launched, used, stopped, started again, terminated.
func life(account string, at time.Time) []instance.Event {
	spec := instance.Spec{
		ClientToken: ulid.Make().String(), Image: "ami-0123456789abcdef0", Type: "t3.medium", Region: "us-east-1",
		RootDevice: "/dev/xvda", VolumeGiB: 20, UserData: strings.Repeat("#!/bin/sh\n", 200), TokenKey: "k1",
	}
	return []instance.Event{
		instance.Requested{Account: account, Name: sealed(60), Type: spec.Type, Region: spec.Region},
		instance.LaunchAttempted{Attempt: 1, At: at, Spec: spec},
		instance.MachineLaunched{Attempt: 1, Machine: "i-0123456789abcdef0", At: at},
		instance.MachineRunning{Address: "203.0.113.1", At: at},
		instance.GuestEnrolled{Attempt: 1, PublicKey: sealed(32)},
		instance.PhaseReached{Boot: "b1", Phase: instance.PhaseInstalling, Detail: "XFCE", At: at},
		instance.VersionsReported{Boot: "b1", Versions: map[string]string{"os": "debian 13", "guest": "1.0.0"}, At: at},
		instance.PhaseReached{Boot: "b1", Phase: instance.PhaseDesktop, At: at},
		instance.PhaseReached{Boot: "b1", Phase: instance.PhaseAgent, At: at},
		instance.PhaseReached{Boot: "b1", Phase: instance.PhaseReady, At: at},
		instance.StopRequested{At: at},
		instance.CallAccepted{Call: instance.CallStop, At: at},
		instance.MachineStopped{Asked: true},
		instance.StartRequested{At: at},
		instance.CallAccepted{Call: instance.CallStart, At: at},
		instance.MachineRunning{Address: "203.0.113.2", At: at},
		instance.PhaseReached{Boot: "b2", Phase: instance.PhaseDesktop, At: at},
		instance.PhaseReached{Boot: "b2", Phase: instance.PhaseReady, At: at},
		instance.TerminationRequested{At: at},
		instance.CallAccepted{Call: instance.CallTerminate, At: at},
		instance.MachineGone{Asked: true},
		instance.Terminated{},
	}
}
