package ec2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/commandstest"
	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/commands/provisioner/provisionertest"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
	"github.com/cloudbot-ai/control-plane/internal/retry"
)

// planted lists mistakes that a control plane could make, each added by a wrapper. The checker must find every
// one of them to be trusted.
var planted = map[string]func(*setup){
	"no client token": func(c *setup) {
		c.transport = editing(func(form url.Values) { form.Del("ClientToken") })
	},
	"tags only after the launch": func(c *setup) {
		c.transport = editing(func(form url.Values) {
			for name := range form {
				if strings.HasPrefix(name, "TagSpecification") {
					form.Del(name)
				}
			}
		})
	},
	"no tag on the volume": func(c *setup) {
		c.transport = editing(func(form url.Values) {
			for name, v := range form {
				if strings.HasSuffix(name, ".ResourceType") && v[0] == "volume" {
					form.Set(name, "elastic-ip")
				}
			}
		})
	},
	"fresh user-data on retry": func(c *setup) {
		var n atomic.Int64
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, launch: func(ctx context.Context, s instance.Spec, userData string) (string, error) {
				return i.Launch(ctx, s, fmt.Sprint(userData, "#", n.Add(1)))
			}}
		}
	},
	"another attempt after a lost reply": func(c *setup) {
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, launch: func(ctx context.Context, s instance.Spec, userData string) (string, error) {
				id, err := i.Launch(ctx, s, userData)
				if known := (*machines.CallError)(nil); err != nil && !errors.As(err, &known) {
					err = &machines.CallError{Verdict: instance.Another, Code: "no_answer", Reason: "No answer."}
				}
				return id, err
			}}
		}
	},
	"a lost reply taken for a refusal": func(c *setup) {
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, launch: func(ctx context.Context, s instance.Spec, userData string) (string, error) {
				id, err := i.Launch(ctx, s, userData)
				if known := (*machines.CallError)(nil); err != nil && !errors.As(err, &known) {
					err = &machines.CallError{Verdict: instance.Never, Code: "no_answer", Reason: "No answer."}
				}
				return id, err
			}}
		}
	},
	"a call without an answer taken for one without effect": func(c *setup) {
		c.plan = roughest()
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, launch: func(ctx context.Context, s instance.Spec, userData string) (string, error) {
				id, err := i.Launch(ctx, s, userData)
				if known := (*machines.CallError)(nil); err != nil && !errors.As(err, &known) {
					err = &machines.CallError{Verdict: instance.Again, Code: "no_answer", Reason: "No answer."}
				}
				return id, err
			}}
		}
	},
	"another's open attempt taken for one's own": func(c *setup) {
		c.plan = roughest()
		c.plan.Late, c.plan.NoCapacity = 400, 400
		c.store = func(s eventstore.Store) eventstore.Store { return &forgetful{Store: s} }
	},
	"terminate forgotten": func(c *setup) {
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, terminate: func(context.Context, string) error { return nil }}
		}
	},
	"terminate forgotten on cancel": func(c *setup) {
		// The saga looks for the machine of a cancelled launch; this cloud answers "none" without looking.
		var under eventstore.Store
		c.store = func(s eventstore.Store) eventstore.Store { under = s; return s }
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, launch: func(ctx context.Context, s instance.Spec, userData string) (string, error) {
				if has(under, s.Tags["cloudbot:instance"], "instance.termination_requested") {
					return "", &machines.CallError{Verdict: instance.Never, Code: "cancelled", Reason: "Cancelled."}
				}
				return i.Launch(ctx, s, userData)
			}}
		}
	},
	"not found believed at once": func(c *setup) {
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, describe: func(ctx context.Context, ids []string) ([]machines.Machine, error) {
				list, err := i.Describe(ctx, ids)
				known := map[string]bool{}
				for _, m := range list {
					known[m.ID] = true
				}
				for _, id := range ids {
					if err == nil && !known[id] {
						list = append(list, machines.Machine{ID: id, Seen: instance.SeenGone})
					}
				}
				return list, err
			}}
		}
	},
	"shutting down taken for terminated": func(c *setup) {
		var mu sync.Mutex
		told := map[string]bool{}
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i,
				terminate: func(ctx context.Context, id string) error {
					err := i.Terminate(ctx, id)
					mu.Lock()
					defer mu.Unlock()
					told[id] = err == nil
					return err
				},
				describe: func(ctx context.Context, ids []string) ([]machines.Machine, error) {
					list, err := i.Describe(ctx, ids)
					mu.Lock()
					defer mu.Unlock()
					for n := range list {
						if told[list[n].ID] {
							list[n].Seen = instance.SeenGone
						}
					}
					return list, err
				}}
		}
	},
	"launched before it is written": func(c *setup) {
		c.cloud = func(i machines.Inventory) machines.Inventory {
			return &mistaken{Inventory: i, freeze: func(p machines.LaunchPlan) (instance.Spec, error) {
				s, err := i.Freeze(p)
				if err == nil {
					token, _ := commandstest.Tokens{}.Token(p.Instance, p.Attempt, "k1")
					_, _ = i.Launch(context.Background(), s, strings.ReplaceAll(s.UserData, machines.TokenPlaceholder, token))
				}
				return s, err
			}}
		}
	},
	"acknowledged before it is appended": func(c *setup) {
		c.store = func(s eventstore.Store) eventstore.Store { return &hasty{Store: s} }
	},
	"two sagas and no version check": func(c *setup) {
		c.store = func(s eventstore.Store) eventstore.Store { return &careless{Store: s} }
	},
	"address not followed": func(c *setup) {
		c.cloud = func(i machines.Inventory) machines.Inventory {
			var mu sync.Mutex
			first := map[string]string{}
			return &mistaken{Inventory: i, describe: func(ctx context.Context, ids []string) ([]machines.Machine, error) {
				list, err := i.Describe(ctx, ids)
				mu.Lock()
				defer mu.Unlock()
				for n, m := range list {
					if first[m.ID] == "" {
						first[m.ID] = m.Address
					}
					if m.Address != "" {
						list[n].Address = first[m.ID]
					}
				}
				return list, err
			}}
		}
	},
}

// Each planted fault is found within a few dozen schedules. Without a planted fault the same schedules show none
// (TestSchedules plays them).
func TestPlantedFaultsAreCaught(t *testing.T) {
	t.Parallel()
	for name, plant := range planted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed < 150; seed++ {
				var found error
				synctest.Test(t, func(t *testing.T) {
					c := setup{seed: seed, plan: rough(), workers: 1}
					plant(&c)
					sagas := 1
					if strings.HasPrefix(name, "two sagas") {
						sagas, c.reconcile = 2, true // as in TestTwoSagas, which finds no fault
					}
					_, found = schedule(t, c, sagas, &provisionertest.Tally{})
				})
				if found != nil {
					text := found.Error()
					t.Logf("caught with seed %d: %s", seed, text[:min(len(text), 160)])
					return
				}
			}
			t.Error("not caught")
		})
	}
	if len(planted) < 8 {
		t.Errorf("only %d faults are planted, want at least 8", len(planted))
	}
}

// mistaken is a cloud with a planted mistake.
type mistaken struct {
	machines.Inventory
	freeze    func(machines.LaunchPlan) (instance.Spec, error)
	launch    func(context.Context, instance.Spec, string) (string, error)
	terminate func(context.Context, string) error
	describe  func(context.Context, []string) ([]machines.Machine, error)
}

func (m *mistaken) Freeze(p machines.LaunchPlan) (instance.Spec, error) {
	if m.freeze == nil {
		return m.Inventory.Freeze(p)
	}
	return m.freeze(p)
}

func (m *mistaken) Launch(ctx context.Context, s instance.Spec, userData string) (string, error) {
	if m.launch == nil {
		return m.Inventory.Launch(ctx, s, userData)
	}
	return m.launch(ctx, s, userData)
}

func (m *mistaken) Terminate(ctx context.Context, id string) error {
	if m.terminate == nil {
		return m.Inventory.Terminate(ctx, id)
	}
	return m.terminate(ctx, id)
}

func (m *mistaken) Describe(ctx context.Context, ids []string) ([]machines.Machine, error) {
	if m.describe == nil {
		return m.Inventory.Describe(ctx, ids)
	}
	return m.describe(ctx, ids)
}

// editing is a transport that changes launch requests.
func editing(edit func(url.Values)) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			form, err := url.ParseQuery(string(body))
			if err != nil {
				return nil, err
			}
			if form.Get("Action") == "RunInstances" {
				edit(form)
				body = []byte(form.Encode())
			}
			r = r.Clone(r.Context())
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			return next.RoundTrip(r)
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// hasty reports an append of an attempt as done, and makes it together with the next append.
type hasty struct {
	eventstore.Store
	mu    sync.Mutex
	owing []eventstore.Append
}

func (h *hasty) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, owed := range h.owing {
		_, _ = h.Store.Append(ctx, owed)
	}
	h.owing = nil
	if len(a.Writes) == 1 && len(a.Writes[0].Events) == 1 && a.Writes[0].Events[0].Type == "instance.launch_attempted" {
		h.owing = append(h.owing, a)
		return eventstore.Result{First: 1, Last: 1}, nil
	}
	return h.Store.Append(ctx, a)
}

func (h *hasty) ReadStream(ctx context.Context, s eventstore.StreamID, after int64) iter.Seq2[eventstore.Event, error] {
	h.mu.Lock()
	var owed []eventstore.Event
	for _, a := range h.owing {
		if a.Writes[0].Stream == s {
			owed = append(owed, eventstore.Event{Stream: s, Version: a.Writes[0].Expected + 1, NewEvent: a.Writes[0].Events[0]})
		}
	}
	h.mu.Unlock()
	return func(yield func(eventstore.Event, error) bool) {
		for e, err := range h.Store.ReadStream(ctx, s, after) {
			if !yield(e, err) {
				return
			}
		}
		if ctx.Value(strict{}) != nil {
			return
		}
		for _, e := range owed {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// strict makes hasty return what is really in the log.
type strict struct{}

// forgetful never records that it continues another saga's attempt.
type forgetful struct{ eventstore.Store }

func (f *forgetful) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	for _, w := range a.Writes {
		for _, e := range w.Events {
			if bytes.Contains(e.Data, []byte(`"code":"interrupted"`)) {
				return eventstore.Result{First: 1, Last: 1}, nil
			}
		}
	}
	return f.Store.Append(ctx, a)
}

// careless appends at the stream's current version, whatever was expected. It waits a little first, so that
// another saga may read what this one has read.
type careless struct{ eventstore.Store }

func (c *careless) Append(ctx context.Context, a eventstore.Append) (eventstore.Result, error) {
	_ = retry.Sleep(ctx, time.Millisecond)
	for {
		res, err := c.Store.Append(ctx, a)
		var conflict *eventstore.ConflictError
		if !errors.As(err, &conflict) {
			return res, err
		}
		for i := range a.Writes {
			if a.Writes[i].Stream == conflict.Stream {
				a.Writes[i].Expected = conflict.Actual
			}
		}
	}
}

func has(store eventstore.Store, id, typ string) bool {
	for e, err := range store.ReadStream(context.Background(), eventstore.StreamID{Aggregate: "instance", ID: id}, 0) {
		if err == nil && e.Type == typ {
			return true
		}
	}
	return false
}
