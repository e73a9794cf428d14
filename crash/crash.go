// Package crash turns a panic in a goroutine into an error of the part that the goroutine belongs to. An
// uncaught panic ends the process immediately: no request finishes, and no child process is stopped.
package crash

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
)

// Error is a panic and where it happened.
type Error struct {
	Text  string
	Stack string
}

func (e *Error) Error() string { return "panic: " + e.Text }

// Caught, deferred, makes a panic of the function its error.
func Caught(err *error) {
	if p := recover(); p != nil {
		*err = caught(p)
	}
}

// Logged, deferred, logs a panic of the function: for goroutines that return no error.
func Logged(log *slog.Logger, part string) {
	if p := recover(); p != nil {
		e := caught(p)
		log.Error("background part panicked", "part", part, "panic", e.Text, "stack", e.Stack)
	}
}

// Guard returns f with its panics as errors.
func Guard(f func() error) func() error {
	return func() (err error) {
		defer Caught(&err)
		return f()
	}
}

// Of returns the panic in an error, nil where there is none.
func Of(err error) *Error {
	var e *Error
	errors.As(err, &e)
	return e
}

func caught(p any) *Error {
	text := fmt.Sprintf("%T", p)
	if bug, ok := p.(runtime.Error); ok { // other values may hold what a user or a machine sent
		text = bug.Error()
	}
	return &Error{Text: text, Stack: string(debug.Stack())}
}
