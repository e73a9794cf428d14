package projections

import "fmt"

// RebuildKeeping is Rebuild with fewer rows in memory.
var RebuildKeeping = rebuildKeeping

// FillOwners fills the owners that Live keeps.
func (l *Live) FillOwners() {
	for n := range keptOwners {
		l.learn(fmt.Sprint("session/", n), "other")
	}
}
