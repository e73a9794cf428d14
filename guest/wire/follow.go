package wire

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// MaxFollow bounds a line of FollowPath's answer, in bytes, its newline included.
const MaxFollow = 8 << 10

// FollowPath is the path at which a guest's diagnostics stream the boot's phases and the log: JSON lines (Follow) without
// an end. The query parameter after is the Place to continue from.
const FollowPath = "/follow"

type (
	// Follow is one line of the answer; exactly one field is set.
	Follow struct {
		Boot  string `json:"boot,omitempty"` // in the first line: the boot of the lines that follow
		Phase *Phase `json:"phase,omitempty"`
		Line  *Line  `json:"line,omitempty"`
	}
	// Line is one redacted line of the machine's log.
	Line struct {
		Seq   int64     `json:"seq"` // grows within a boot
		At    time.Time `json:"at"`
		Phase string    `json:"phase"` // of the boot
		Text  string    `json:"text"`
	}
)

// Place is the position of a reader in a machine's log: after that line of that boot. The zero Place is before the first
// line.
type Place struct {
	Boot string
	Seq  int64
}

func (p Place) String() string { return p.Boot + "." + strconv.FormatInt(p.Seq, 10) }

// ParsePlace is the inverse of String.
func ParsePlace(text string) (Place, error) {
	boot, number, _ := strings.Cut(text, ".")
	seq, err := strconv.ParseInt(number, 10, 64)
	p := Place{boot, seq}
	if err != nil || seq < 0 || !Word(boot) || p.String() != text {
		return Place{}, errors.New("a place in a log is a boot id, a dot and a number")
	}
	return p, nil
}

// Word matches ids of instances and boots: short, and without characters that need escaping in a path or a log.
func Word(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
