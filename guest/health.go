package guest

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/cloudbot-ai/control-plane/guest/wire"
)

// figures reads the kernel's figures of the machine; those that cannot be read stay zero.
func figures(stateDir string) wire.Health {
	var h wire.Health
	if f := strings.Fields(read("/proc/uptime")); len(f) > 0 {
		s, _ := strconv.ParseFloat(f[0], 64)
		h.UptimeSeconds = int64(s)
	}
	if f := strings.Fields(read("/proc/loadavg")); len(f) > 0 {
		h.Load, _ = strconv.ParseFloat(f[0], 64)
	}
	s := bufio.NewScanner(strings.NewReader(read("/proc/meminfo")))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			h.MemoryTotal = kb << 10
		case "MemAvailable:":
			h.MemoryAvailable = kb << 10
		}
	}
	var st syscall.Statfs_t
	if syscall.Statfs(stateDir, &st) == nil {
		h.DiskFree = int64(st.Bavail) * st.Bsize
		h.DiskTotal = int64(st.Blocks-st.Bfree+st.Bavail) * st.Bsize // without what only root may use
	}
	return h
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
