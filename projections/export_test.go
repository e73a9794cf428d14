package projections

// RebuildKeeping is Rebuild with fewer rows in memory.
var RebuildKeeping = rebuildKeeping
