// Package wire defines the tunnel's format, shared by the guest and the control plane: a WebSocket with binary messages, a
// mutual greeting in JSON, then a yamux session inside it.
//
// The guest opens one stream, the control stream, and keeps it: JSON lines in both directions (Message). The control
// plane opens all other streams. Each begins with a line that names the service (Open), answered by a line (Opened); all
// further bytes belong to the service.
package wire

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version is the number of the format; each side refuses any other.
const Version = 1

// Paths on the control plane.
const (
	EnrollPath = "/api/guest/enroll"
	TunnelPath = "/api/guest/tunnel"
)

// Limits that both sides enforce.
const (
	MaxEnroll   = 8 << 10  // bytes of an enrolment request or answer
	MaxGreeting = 4 << 10  // bytes of a greeting message
	MaxLine     = 64 << 10 // bytes of a control line, its newline included
	MaxHeader   = 512      // bytes of a stream's opening line, its newline included
	MaxLogLine  = 1 << 10  // bytes of text in one Line
	MaxStreams  = 64       // open at once on a tunnel, without the control stream

	GreetingTimeout = 5 * time.Second
	WriteTimeout    = 10 * time.Second
	KeepAlive       = 10 * time.Second
	HealthEvery     = 15 * time.Second
)

// Services that a stream can be opened to.
const (
	VNC   = "vnc"   // raw RFB, with the machine's VNC password
	Agent = "agent" // HTTP and WebSocket of the OpenClaw gateway
	HTTP  = "http"  // HTTP of the guest's own diagnostics
)

// Close codes of the tunnel's WebSocket, after the HTTP status they stand for.
const (
	CloseUnauthorized = 4401 // the signature does not match the enrolled key
	CloseGone         = 4404 // no such instance, or it is terminated
	CloseOwned        = 4409 // another guest of this machine holds the tunnel and answers
	CloseTooOften     = 4429 // this machine, or its account, connects too often
	CloseUnavailable  = 4503 // the control plane cannot decide at present; try again
)

var (
	// ErrNotConnected says that no replica holds a tunnel to the machine.
	ErrNotConnected = errors.New("the machine is not connected")
	// ErrNotReady says that the machine is connected but the service is not ready.
	ErrNotReady = errors.New("the machine is not ready yet")
	// ErrBusy says that the tunnel has reached its limit of streams.
	ErrBusy = errors.New("the machine has too many open streams")
)

type (
	// Enroll is the body of POST EnrollPath.
	Enroll struct {
		Token     string `json:"token"`
		PublicKey []byte `json:"public_key"` // Ed25519
	}
	// Enrolled is its answer.
	Enrolled struct {
		Instance string `json:"instance"`
	}
	// Challenge begins the greeting; sent by the control plane.
	Challenge struct {
		Version int    `json:"version"`
		Nonce   []byte `json:"nonce"` // 32 bytes, made for this connection
	}
	// Proof answers it; sent by the guest.
	Proof struct {
		Version   int    `json:"version"`
		Instance  string `json:"instance"`
		Boot      string `json:"boot"`
		Signature []byte `json:"signature"` // over SignedBytes

		// Process is drawn when the guest program starts. It distinguishes the guest's own connections from those of
		// another program with the same key. Older guests send "".
		Process          string `json:"process,omitempty"`
		ProcessSignature []byte `json:"process_signature,omitempty"` // over SignedProcess
	}
	// Welcome ends the greeting; a refusal is a close code instead.
	Welcome struct {
		OK bool `json:"ok"`
	}
	// Open is the first line of a stream that the control plane opens.
	Open struct {
		Open string `json:"open"`
	}
	// Opened answers it.
	Opened struct {
		OK    bool   `json:"ok"`
		Error string `json:"error,omitempty"` // a sentence
	}
)

// SignedBytes returns the bytes that a Proof signs, bound to this purpose, machine, boot and connection.
func SignedBytes(nonce []byte, instance, boot string) []byte {
	return fmt.Appendf(nil, "cloudbot guest tunnel %d\n%x\n%q\n%q\n", Version, nonce, instance, boot)
}

// SignedProcess returns the bytes that a Proof signs for its process. They have a signature of their own, because older
// control planes know only the other one.
func SignedProcess(nonce []byte, instance, boot, process string) []byte {
	return fmt.Appendf(nil, "cloudbot guest process %d\n%x\n%q\n%q\n%q\n", Version, nonce, instance, boot, process)
}

// Message is one control line; exactly one field is set. A reader skips a line without a field that it knows.
type Message struct {
	Hello  *Hello  `json:"hello,omitempty"`  // guest: first, and after each change
	Phase  *Phase  `json:"phase,omitempty"`  // guest
	Health *Health `json:"health,omitempty"` // guest
	State  *State  `json:"state,omitempty"`  // guest: after each change, and first if it is not the zero State
	Keys   *Keys   `json:"keys,omitempty"`   // control plane
	GoAway *GoAway `json:"goaway,omitempty"` // control plane: reconnect immediately

	Activity *Activity `json:"activity,omitempty"` // guest: immediately when use resumes, and every ActivityEvery
	Notice   *Notice   `json:"notice,omitempty"`   // control plane: shown on the desktop
}

type (
	// Hello describes the guest, and contains what the bridges need to log in.
	Hello struct {
		Version      string `json:"version"` // of the guest program
		Boot         string `json:"boot"`
		VNCPassword  string `json:"vnc_password"`
		GatewayToken string `json:"gateway_token"`
		Desktop      string `json:"desktop"` // the kind that the guest chose, for people
		Agent        string `json:"agent"`

		// Versions of what the machine runs: "guest", "os", and "openclaw" and "node" once they are installed. Beside them, what
		// its agent has: "agent" is openclaw or stand-in, "agent_sees" desktop or nothing, "model" an id, none or unknown; the
		// last two are missing until the agent is configured, and all three from older guests.
		Versions map[string]string `json:"versions,omitempty"`
	}
	// Phase is the progress of the boot.
	Phase struct {
		Phase    string    `json:"phase"`            // booting, installing, desktop, agent, ready
		Detail   string    `json:"detail,omitempty"` // a sentence
		Progress int       `json:"progress"`         // percent
		At       time.Time `json:"at,omitzero"`      // when the phase or the detail was reached, by the machine's clock
	}
	// Health holds the machine's own figures.
	Health struct {
		UptimeSeconds   int64   `json:"uptime_seconds"`
		Load            float64 `json:"load"`              // over one minute
		MemoryTotal     int64   `json:"memory_total"`      // bytes
		MemoryAvailable int64   `json:"memory_available"`  // bytes
		DiskFree        int64   `json:"disk_free"`         // bytes, where the state is kept
		DiskTotal       int64   `json:"disk_total"`        // bytes, of which programs may use DiskFree; older guests do not report it
		Desktop         bool    `json:"desktop"`           // it answers
		Agent           bool    `json:"agent"`             // it answers
		Streams         int     `json:"streams,omitempty"` // open now
	}
	// State is what the agent needs from its user at present, whether the user holds its input, and who sees the screen.
	State struct {
		Approvals int       `json:"approvals,omitempty"` // that wait
		Questions int       `json:"questions,omitempty"` // sets of them that wait
		Until     time.Time `json:"until,omitzero"`      // when the first of both expires; zero: not known
		Held      bool      `json:"held,omitempty"`      // see Control
		Runs      int       `json:"runs,omitempty"`      // chats in which it works at present; older guests do not report it
		Viewers   int       `json:"viewers,omitempty"`   // of the screen, also those that only watch; 0: at most one
	}
	// Keys replaces all API keys of the machine: environment name to key.
	Keys struct {
		Env map[string]string `json:"env"`
	}
	// GoAway announces that this end of the tunnel will close.
	GoAway struct{}
)

// WriteLine writes v as one JSON line of at most limit bytes.
func WriteLine(w io.Writer, v any, limit int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b)+1 > limit {
		return fmt.Errorf("line of %d bytes is longer than %d", len(b)+1, limit)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// ReadLine reads one JSON line into v and no byte after it. It reads byte by byte, for the few short lines before a
// stream's own bytes.
func ReadLine(r io.Reader, v any, limit int) error {
	line := make([]byte, 0, 128)
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(r, one); err != nil {
			return err
		}
		if one[0] == '\n' {
			return json.Unmarshal(line, v)
		}
		if len(line)+1 >= limit {
			return fmt.Errorf("line is longer than %d bytes", limit)
		}
		line = append(line, one[0])
	}
}

// Lines reads control messages one at a time.
type Lines struct{ s *bufio.Scanner }

// NewLines reads from r, refusing lines beyond MaxLine.
func NewLines(r io.Reader) *Lines {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1024), MaxLine)
	return &Lines{s}
}

// Next returns the next message; io.EOF at the end.
func (l *Lines) Next() (Message, error) {
	var m Message
	if !l.s.Scan() {
		if err := l.s.Err(); err != nil {
			return m, err
		}
		return m, io.EOF
	}
	return m, json.Unmarshal(l.s.Bytes(), &m)
}
