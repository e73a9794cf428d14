package ec2_test

import (
	"runtime/debug"
	"testing"
)

// The tests create thousands of small worlds, and all of them fit into memory.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}
