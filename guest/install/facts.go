package install

import (
	"bufio"
	"os"
	"runtime"
	"strings"
)

// facts describes the machine for the steps.
type facts struct {
	arch   string // amd64, arm64
	distro string // debian, ubuntu
	os     string // "Debian GNU/Linux 12 (bookworm)"
}

func (i *Installer) system() facts {
	f := facts{arch: runtime.GOARCH, distro: "debian"}
	file, err := os.Open(i.path("/etc/os-release"))
	if err != nil {
		return f
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	for s.Scan() {
		name, value, _ := strings.Cut(s.Text(), "=")
		switch value = strings.Trim(value, `"`); name {
		case "ID":
			f.distro = value
		case "PRETTY_NAME":
			f.os = value
		}
	}
	return f
}
