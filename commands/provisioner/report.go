package provisioner

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

// Kind of a finding.
type Kind string

const (
	Adopt     Kind = "adopt"     // the instance's machine, which the log does not know yet
	Terminate Kind = "terminate" // a machine that no instance uses
	Repair    Kind = "repair"    // the log is out of date
	Missing   Kind = "missing"   // the cloud does not list the instance's machine
	Young     Kind = "young"     // would be terminated if it were older
	Stranger  Kind = "stranger"  // this environment's tag, but no history; the operator must check it
	Returned  Kind = "returned"  // given up as missing, but listed again; the operator must check it

	Elsewhere  Kind = "elsewhere"  // in a region that this server is not in
	Unreadable Kind = "unreadable" // the instance's events cannot be read
)

// Report is the result of one comparison.
type Report struct {
	At        time.Time `json:"at"`
	DryRun    bool      `json:"dry_run"`
	Machines  int       `json:"machines"`  // with this environment's tag
	Instances int       `json:"instances"` // that have not ended
	Findings  []Finding `json:"findings"`
}

// Finding is one difference between cloud and log.
type Finding struct {
	Kind     Kind            `json:"kind"`
	Machine  string          `json:"machine"`
	Instance string          `json:"instance,omitempty"`
	Account  string          `json:"account,omitempty"` // its owner, of its tags
	Attempt  int             `json:"attempt,omitempty"`
	State    instance.Seen   `json:"state"`            // as the cloud says
	Status   instance.Status `json:"status,omitempty"` // as the log says
	Age      time.Duration   `json:"age_ns"`
	Why      string          `json:"why"`
	Done     bool            `json:"done"`            // it has been corrected
	Error    string          `json:"error,omitempty"` // why it could not be corrected
}

// Count returns how many findings are of a kind.
func (p Report) Count(k Kind) (n int) {
	for _, f := range p.Findings {
		if f.Kind == k {
			n++
		}
	}
	return n
}

// unreadable reports an instance whose events cannot be read. It must not block the others.
func (p *Report) unreadable(f Finding, err error) error {
	f.Kind, f.Why = Unreadable, "its events cannot be read; was one written by a newer version?"
	return p.add(f, true, func() error { return err })
}

// add appends a finding if it is worth reporting, and corrects it with do, if given. That another process was faster
// is no error.
func (p *Report) add(f Finding, worth bool, do func() error) error {
	if !worth {
		return nil
	}
	if do != nil {
		err := do()
		switch {
		case errors.Is(err, eventstore.ErrUnavailable):
			return err
		case err != nil && !errors.Is(err, instance.ErrSuperseded):
			f.Error = err.Error()
		default:
			f.Done = true
		}
	}
	p.Findings = append(p.Findings, f)
	return nil
}

// Write prints the report for an operator.
func (p Report) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d machines have this environment's tag; %d instances have not ended.\n", p.Machines, p.Instances)
	if len(p.Findings) == 0 {
		b.WriteString("Cloud and log agree.\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	b.WriteByte('\n')
	t := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tMACHINE\tINSTANCE\tCLOUD\tLOG\tAGE\tDONE\tWHY")
	for _, f := range p.Findings {
		done, why := "no", f.Why
		if f.Done {
			done = "yes"
		}
		if f.Error != "" {
			done, why = "FAILED", why+": "+f.Error
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Kind, f.Machine, dash(f.Instance), f.State, dash(string(f.Status)), f.Age, done, why)
	}
	_ = t.Flush()
	if p.DryRun {
		b.WriteString("\nNothing was changed: this was a dry run.\n")
	}
	if p.Count(Stranger)+p.Count(Returned) > 0 {
		b.WriteString("\nStrangers and machines that returned are never touched. `cloudbot strangers list` says whose they are; adopt or remove each of them.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
