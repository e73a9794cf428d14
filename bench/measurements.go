package main

import "context"

// measurement is one that the command line names.
type measurement struct {
	name string
	run  func(context.Context, options) error
}

// measurements are all of them, in the order in which they run.
var measurements = []measurement{
	{"append", onLog(benchAppend)},
	{"replay", onLog(benchReplay)},
	{"rebuild", onLog(benchRebuilds)},
	{"catchup", onLog(benchCatchUp)},
	{"refill", onLog(benchRefill)},
	{"start", onLog(benchStart)},
	{"loss", onLog(benchLoss)},
	{"launch", onLog(benchLaunch)},
	{"write", onLog(benchWrite)},
	{"queries", onLog(benchQueries)},
	{"screen", func(ctx context.Context, _ options) error { return benchScreen(ctx) }},
	{"bridge", benchBridge},
	{"scale", benchScale},
	{"streams", onLog(benchStreams)},
	{"fleet", onLog(benchFleet)},
}

// onLog gives a measurement a fresh Postgres with an empty log.
func onLog(measure func(context.Context, *lab, options) error) func(context.Context, options) error {
	return func(ctx context.Context, o options) error {
		return inLab(ctx, func(l *lab) error { return measure(ctx, l, o) })
	}
}

func names() []string {
	all := make([]string, len(measurements))
	for i, m := range measurements {
		all[i] = m.name
	}
	return all
}
