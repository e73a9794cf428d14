package install

import (
	"context"
	"errors"
)

// app is a program that users expect on a desktop.
type app struct {
	name, title string
	vendor      *vendor  // tried first; nil: only the distribution
	packages    string   // of the vendor
	instead     []string // the distribution's alternatives, in order of preference; each a list of packages
}

var apps = []app{
	{
		name: "browser", title: "Installing Chrome",
		vendor: &vendor{
			name: "google-chrome", key: "https://dl.google.com/linux/linux_signing_key.pub",
			source: "deb %s https://dl.google.com/linux/chrome/deb/ stable main", arch: []string{"amd64"},
		},
		packages: "google-chrome-stable",
		instead:  []string{"chromium", "firefox-esr", "epiphany-browser"},
	},
	{
		name: "editor", title: "Installing VS Code",
		vendor: &vendor{
			name: "vscode", key: "https://packages.microsoft.com/keys/microsoft.asc",
			source: "deb %s https://packages.microsoft.com/repos/code stable main", arch: []string{"amd64", "arm64"},
		},
		packages: "code",
		instead:  []string{"geany", "mousepad"},
	},
	{
		name: "office", title: "Installing LibreOffice",
		instead: []string{"libreoffice-writer libreoffice-calc libreoffice-impress libreoffice-gtk3", "abiword gnumeric"},
	},
}

func (a app) install(ctx context.Context, i *Installer) (string, error) {
	note := ""
	if a.vendor != nil {
		err := i.addVendor(ctx, *a.vendor)
		if err == nil {
			if _, err = i.firstOf(ctx, a.packages); err == nil {
				return a.packages, nil
			}
		}
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if errors.Is(err, errLocked) { // not the vendor's fault
			return "", err
		}
		i.log.Warn("vendor unavailable, installing the distribution's equivalent", "step", a.name, "err", err)
		note = " of the distribution, as " + reason(err)
	}
	took, err := i.firstOf(ctx, a.instead...)
	return took + note, err
}
