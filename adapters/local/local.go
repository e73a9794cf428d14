// Package local runs machines as processes: each is a guest with a desktop of its own, which connects to the
// control plane exactly as one on EC2 does. It is the cloud of a developer's computer.
//
// The one thing to know: all state is on disk, guarded by file locks. So any number of control-plane processes
// may share a folder, and any of them may die at any time. If they run as root, each machine has a user of its
// own; else it has the rights of the control plane.
package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/commands/machines"
	"github.com/cloudbot-ai/control-plane/domain/instance"
)

// Config configures local machines.
type Config struct {
	Dir             string        // contains the ledger and a folder for each machine; created if missing; required
	GuestPath       string        // the guest program; "": cloudbot-guest beside this executable
	ControlPlaneURL string        // where guests connect to; required
	Logger          *slog.Logger  // nil: silent
	Grace           time.Duration // time for a guest to end before it is killed; 0: 5 s
	Agent           func() Agent  // of machines that start; nil: the guest's choice
}

// Cloud implements machines.Cloud.
type Cloud struct {
	cfg    Config
	log    *slog.Logger
	self   process
	ledger ledger

	rooms  string         // contains the folders that the machines' own users may enter
	guest  string         // absolute path of the guest program
	reaped sync.WaitGroup // running guests of this process

	mu       sync.Mutex
	closed   bool               // no further machine is started
	respawns map[string]respawn // of machines that do not stay up
}

// New opens the folder. Run keeps its machines running.
func New(cfg Config) (*Cloud, error) {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	cfg.Grace = cmp.Or(cfg.Grace, 5*time.Second)
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("open local machines: %w", err)
	}
	// A machine's user can pass through, but cannot list the other machines.
	err = errors.Join(os.MkdirAll(filepath.Join(cfg.Dir, locksDir), 0o711), os.Chmod(cfg.Dir, 0o711))
	if err != nil {
		return nil, fmt.Errorf("open local machines: %w", err)
	}
	guest, err := findGuest(cfg.GuestPath)
	if err != nil {
		return nil, fmt.Errorf("open local machines: %w", err)
	}
	self, err := findProcess(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("open local machines: %w", err)
	}
	own, err := usersHere()
	if err != nil {
		return nil, fmt.Errorf("open local machines: %w", err)
	}
	if own.count != 0 {
		socketFolders()
	}
	return &Cloud{
		cfg: cfg, log: cfg.Logger, self: self, rooms: roomsFor(cfg.Dir, own), guest: guest, respawns: map[string]respawn{},
		ledger: ledger{path: filepath.Join(cfg.Dir, "ledger.jsonl"), users: own},
	}, nil
}

// Region implements machines.Cloud.
func (c *Cloud) Region() string { return machines.Local }

// Types implements machines.Cloud. There is one: this computer. Clients that were written for EC2 name EC2's sizes, and
// so do older desktops.
func (c *Cloud) Types() []machines.MachineType {
	return []machines.MachineType{{
		ID: machines.Local, CPUs: runtime.NumCPU(), Memory: memory(), Aliases: []string{"t3.large", "t3.medium", "t3.xlarge"},
		About: "Runs on the server's own computer and shares it with everything else there.",
	}}
}

// memory returns this computer's memory in MiB, 0 if unknown.
func memory() int {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return int(uint64(info.Totalram) * uint64(info.Unit) >> 20)
}

// Freeze implements machines.Cloud.
func (c *Cloud) Freeze(a machines.LaunchPlan) (instance.Spec, error) {
	if !slices.ContainsFunc(c.Types(), func(t machines.MachineType) bool { return t.Named(a.Type) }) {
		return instance.Spec{}, fmt.Errorf("freeze a launch: unknown type %q", a.Type)
	}
	if a.ClientToken == "" || len(a.ClientToken) > 64 {
		return instance.Spec{}, fmt.Errorf("freeze a launch: got a client token of %d characters, want 1 to 64", len(a.ClientToken))
	}
	userData, err := json.Marshal(map[string]any{
		"control_plane_url": c.cfg.ControlPlaneURL, "instance": a.Instance, "token": machines.TokenPlaceholder,
	})
	return instance.Spec{
		ClientToken: a.ClientToken, Image: "local", Type: a.Type, Region: c.Region(), UserData: string(userData),
	}, err
}

// idOf derives a machine's id from its ClientToken, so that a repeated launch always finds it.
func idOf(clientToken string) string {
	sum := sha256.Sum256([]byte(clientToken))
	return "local-" + hex.EncodeToString(sum[:8])
}

// Launch implements machines.Cloud.
func (c *Cloud) Launch(ctx context.Context, s instance.Spec, userData string) (string, error) {
	id := idOf(s.ClientToken)
	sum := sha256.Sum256([]byte(s.Image + "\x00" + s.Type + "\x00" + userData))
	request := hex.EncodeToString(sum[:])
	err := c.locked(ctx, id, func() error {
		known, err := c.ledger.find(id)
		switch {
		case err != nil:
			return err
		case known.Launched && known.Request != request:
			return refused("IdempotentParameterMismatch", "This launch was already made with other parameters.", errors.New("same client token, other request"))
		case known.Launched && !known.running():
			return nil // the machine was made; Describe returns its current state
		case !known.Launched:
			// The ledger comes first: from here on the machine exists, even if this process dies.
			if err := c.ledger.add(entry{Call: "launch", Machine: id, ClientToken: s.ClientToken, Request: request}); err != nil {
				return err
			}
		}
		if err := c.prepare(id, userData); err != nil {
			return err
		}
		m, err := c.read(id)
		if err != nil {
			return err
		}
		return c.ensureRunning(m)
	})
	if err != nil {
		return "", fmt.Errorf("launch %s: %w", id, err)
	}
	return id, nil
}

// Start implements machines.Cloud.
func (c *Cloud) Start(ctx context.Context, id string) error {
	return c.change(ctx, "start", id, c.ensureRunning)
}

// Stop implements machines.Cloud. When it returns, the machine has stopped.
func (c *Cloud) Stop(ctx context.Context, id string) error {
	return c.change(ctx, "stop", id, c.end)
}

// Terminate implements machines.Cloud. When it returns, nothing of the machine is left.
func (c *Cloud) Terminate(ctx context.Context, id string) error {
	return c.change(ctx, "terminate", id, c.erase)
}

// erase ends the machine's processes and deletes its files.
func (c *Cloud) erase(m machine) error {
	if err := c.end(m); err != nil {
		return err
	}
	return c.remove(m.ID)
}

const codeUnknown = "InvalidInstanceID.NotFound"

// change enters the call in the ledger unless it is there already, and carries it out in either case: the process
// that entered it may have died before that.
func (c *Cloud) change(ctx context.Context, call, id string, do func(machine) error) error {
	err := c.locked(ctx, id, func() error {
		known, err := c.ledger.find(id)
		switch {
		case err != nil:
			return err
		case !known.Launched || known.Terminated && call != "terminate":
			return refused(codeUnknown, "The machine no longer exists.", errors.New("not in the ledger, or terminated"))
		case known.Last != call && !(call == "start" && known.running()):
			if err := c.ledger.add(entry{Call: call, Machine: id, ClientToken: known.ClientToken}); err != nil {
				return err
			}
		}
		m, err := c.read(id)
		if err != nil {
			return err
		}
		return do(m)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", call, id, err)
	}
	return nil
}

// Describe implements machines.Cloud.
func (c *Cloud) Describe(_ context.Context, ids []string) ([]machines.Machine, error) {
	var list []machines.Machine
	for _, id := range ids {
		known, err := c.ledger.find(id)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", id, err)
		}
		if !known.Launched {
			continue
		}
		alive, err := c.alive(id)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", id, err)
		}
		seen := instance.SeenPending
		switch {
		case known.Terminated:
			if _, err := os.Stat(c.folder(id)); !alive && errors.Is(err, fs.ErrNotExist) {
				seen = instance.SeenGone
			}
		case known.running() && alive:
			seen = instance.SeenRunning
		case !known.running() && !alive:
			seen = instance.SeenStopped
		}
		list = append(list, machines.Machine{ID: id, Seen: seen, Started: known.Began, Ended: known.Ended})
	}
	return list, nil
}

func refused(code, reason string, err error) error {
	return &machines.CallError{Verdict: instance.Never, Code: code, Reason: reason, Err: err}
}
