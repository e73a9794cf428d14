package httpapi

import (
	"testing"
	"time"
)

// TestASuspensionOutlastsARewind shows that suspensions stay when two parts of the server notice a replaced log at
// different times.
func TestASuspensionOutlastsARewind(t *testing.T) {
	t.Parallel()
	e := newRevocations(time.Minute, time.Now)
	e.Suspended("ada", 7, true)
	e.Suspended("bob", 8, true)
	e.rewound()
	present := map[string]int64{"ada": 7}
	for account, at := range present {
		e.Suspended(account, at, true)
	}
	e.rewound() // the other part, before the first one is done
	e.dropRewound(present)
	if !e.IsRevoked("ada") || e.IsRevoked("bob") {
		t.Errorf("suspended: got ada %v and bob %v, want true and false", e.IsRevoked("ada"), e.IsRevoked("bob"))
	}
}
