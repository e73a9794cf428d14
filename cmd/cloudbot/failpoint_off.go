//go:build !failpoints

package main

// failpoint is nothing outside the fault tests.
func failpoint() func(point string) { return nil }
