package ec2_test

import (
	"runtime/debug"
	"testing"
)

// Thousands of small worlds come and go here, and all of them fit into memory.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	m.Run()
}
