// Command ec2test runs package ec2test as a process: an EC2 for a laptop. Point the control plane at it with
// AWS_ENDPOINT_URL, and any AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. After a restart with the same folder it
// has the same machines.
//
// Tests can look and interfere below /_test/: GET machines, ledger, faults; POST
// outside?machine=…&state=stopped, full?type=…&subnet=…&full=true, plan with a Plan as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloudbot-ai/control-plane/adapters/ec2/ec2test"
	"github.com/cloudbot-ai/control-plane/guest/bootstrap"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "ec2test:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("ec2test", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:4599", "address of the API; keep it on loopback")
	dir := flags.String("dir", "ec2test", "folder for the ledger and the machines")
	seed := flags.Uint64("seed", 1, "seed of all random choices")
	boot := flags.Duration("boot", 2*time.Second, "how long pending, stopping and shutting-down take")
	faults := flags.Int("faults", 0, "chance in thousandths of each kind of fault, for each call")
	guest := flags.String("guest", "", "program that runs on each machine with the configuration from its user-data: bin/cloudbot-guest")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir, err = filepath.Abs(*dir); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	ledger, err := os.OpenFile(filepath.Join(*dir, "ledger.jsonl"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer ledger.Close()
	folders := filepath.Join(*dir, "machines")
	run, err := guests(*guest, folders)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	span := ec2test.Span{Min: *boot, Max: *boot * 3 / 2}
	n := *faults
	srv := ec2test.New(ec2test.Config{
		Seed: *seed, Ledger: ledger, Logger: log, Guest: run,
		Effect: func(e ec2test.Entry, all []ec2test.Machine) {
			if err := keep(e, all, folders); err != nil {
				log.Error("keeping user-data failed, the machine will be gone after a restart", "machine", e.Machine, "err", err)
			}
		},
		Plan: ec2test.Plan{
			Boot: span, Stop: span, Terminate: span, Unknown: ec2test.Span{Max: *boot}, Limits: true,
			Throttled: n, Internal: n, InternalDone: n, LostRequest: n, LostReply: n, NoCapacity: n,
		},
	})
	if err := restore(srv, ledger, folders, log); err != nil {
		return fmt.Errorf("%w; delete %s to start without machines", err, ledger.Name())
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("ec2test is ready: http://%s\n", l.Addr())
	web := &http.Server{Handler: handler(srv), ReadHeaderTimeout: 10 * time.Second}
	closed := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer closed()
	ended := make(chan error, 1)
	go func() {
		err := srv.Run(ctx)
		_ = web.Close()
		ended <- err
	}()
	if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-ended
}

// guests returns a Guest that runs a program on each machine, with the configuration from its user-data.
func guests(program, dir string) (ec2test.Guest, error) {
	if program == "" {
		return ec2test.Guest{}, nil
	}
	path, err := filepath.Abs(program)
	return ec2test.Guest{Command: []string{path, "-config", "guest.json"}, Dir: dir, Prepare: configure}, err
}

// keep writes a new machine's user-data into its folder. The ledger omits it, because it contains a token.
func keep(e ec2test.Entry, all []ec2test.Machine, folders string) error {
	if e.Launch == nil {
		return nil
	}
	dir := filepath.Join(folders, e.Machine)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(m ec2test.Machine) bool { return m.ID == e.Machine })
	return os.WriteFile(filepath.Join(dir, "user-data"), []byte(all[i].Launch.UserData), 0o600)
}

// restore restores the machines of an earlier run. A machine without user-data could not boot, so it is terminated.
func restore(srv *ec2test.Server, ledger io.Reader, folders string, log *slog.Logger) error {
	err := srv.Restore(ledger, func(id string) string {
		text, _ := os.ReadFile(filepath.Join(folders, id, "user-data"))
		return string(text)
	})
	if err != nil {
		return err
	}
	for _, m := range srv.Machines() {
		if m.Launch.UserData == "" && srv.Outside(m.ID, ec2test.Terminated) == nil {
			log.Warn("machine of an earlier run gone, its user-data was not kept", "machine", m.ID)
		}
	}
	return nil
}

func configure(m ec2test.Machine, dir string) error {
	config, err := bootstrap.ProcessConfig(m.Launch.UserData, "state", fmt.Sprintf("%s-%d", m.ID, m.Boots))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "guest.json"), config, 0o600)
}

func handler(srv *ec2test.Server) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /{$}", srv)
	mux.HandleFunc("GET /_test/machines", func(w http.ResponseWriter, _ *http.Request) { answer(w, srv.Machines()) })
	mux.HandleFunc("GET /_test/ledger", func(w http.ResponseWriter, _ *http.Request) { answer(w, srv.Ledger()) })
	mux.HandleFunc("GET /_test/faults", func(w http.ResponseWriter, _ *http.Request) { answer(w, srv.Faults()) })
	mux.HandleFunc("POST /_test/outside", func(w http.ResponseWriter, r *http.Request) {
		if err := srv.Outside(r.FormValue("machine"), ec2test.State(r.FormValue("state"))); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("POST /_test/full", func(_ http.ResponseWriter, r *http.Request) {
		srv.SetFull(r.FormValue("type"), r.FormValue("subnet"), strings.EqualFold(r.FormValue("full"), "true"))
	})
	mux.HandleFunc("POST /_test/plan", func(w http.ResponseWriter, r *http.Request) {
		var p ec2test.Plan
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&p); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		srv.SetPlan(p)
	})
	return mux
}

// answer omits user-data, because it contains tokens.
func answer(w http.ResponseWriter, v any) {
	if list, ok := v.([]ec2test.Machine); ok {
		for i := range list {
			list[i].Launch.UserData = ""
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}
