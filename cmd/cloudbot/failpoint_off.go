//go:build !failpoints

package main

// failpoint returns nil outside the fault tests.
func failpoint() func(point string) { return nil }
