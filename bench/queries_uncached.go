package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// benchUncached lets callers ask for so many accounts in turn that each is asked for less than once a second, so that no list is
// answered with the bytes of another. Sessions, tokens and data keys are known.
func (s *server) benchUncached(ctx context.Context, l *lab, bare, list string, members []member, o options) error {
	if _, err := drive(ctx, list, members, 16, 0); err != nil {
		return err
	}
	fmt.Printf("\n| callers | accounts | bare Echo/s | list/s, each made | ratio | p50 | p99 | CPU of the server | transactions a list | not 200 |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, callers := range []int{16, 64} {
		if !slices.Contains(o.callers, callers) {
			continue
		}
		var reference, ours []float64
		var last listLoad
		for range o.runs {
			r, err := drive(ctx, bare, members, callers, o.length)
			if err != nil {
				return err
			}
			cpu, transactions, err := s.while(ctx, l, func() error {
				last, err = drive(ctx, list, members, callers, o.length)
				return err
			})
			if err != nil {
				return err
			}
			last.cpu, last.transactions = cpu/time.Duration(len(last.took)+1), transactions/float64(len(last.took)+1)
			reference, ours = append(reference, r.rate()), append(ours, last.rate())
		}
		fmt.Printf("| %d | %d | %.0f | %.0f | **%.3f** | %.2f ms | %.2f ms | %d µs | %.2f | %d |\n", callers, len(members), median(reference), median(ours),
			median(ours)/median(reference), last.ms(50), last.ms(99), last.cpu.Microseconds(), last.transactions, last.failed)
	}
	return nil
}
