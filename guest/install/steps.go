package install

import (
	"slices"
	"time"
)

// Steps lists the steps of Run, in order: first what the user sees first, last what the machine can do without.
func (i *Installer) Steps() []Step {
	list := []Step{
		{Name: "user", Title: "Creating the machine's user", Revision: 1, Vital: true, Usual: 30 * time.Second, do: makeUser},
		{Name: "desktop", Title: "Installing the desktop", Revision: 6, Vital: true, Usual: 4 * time.Minute, do: installDesktop},
		{Name: "wallpaper", Title: "Setting the wallpaper", Revision: 1, Usual: 30 * time.Second, Then: Desktop, do: hangWallpaper},
	}
	if sudo := i.sudoStep(); i.c.NoSudo {
		list = slices.Insert(list, 0, sudo) // programs of the user's start with the desktop
	} else {
		list = append(list, sudo)
	}
	if !i.c.NoAgent {
		list = append(list,
			Step{Name: "node", Title: "Installing Node", Revision: 1, Vital: true, Usual: 3 * time.Minute, do: installNode},
			Step{Name: "openclaw", Title: "Installing OpenClaw", Revision: 1, Vital: true, Usual: 4 * time.Minute, do: installOpenClaw},
			Step{Name: "workspace", Title: "Creating the agent's workspace", Revision: 1, Vital: true, Usual: 30 * time.Second, do: makeWorkspace},
			Step{Name: "plugins", Title: "Installing plug-ins of model providers", Revision: 1, Usual: time.Minute, Then: Agent, do: installPlugins},
			Step{Name: "tools", Title: "Installing the agent's tools", Revision: 1, Usual: 2 * time.Minute, do: installTools},
		)
	} else {
		list = append(list, Step{Name: "no-agent", Title: "Skipping the agent", Revision: 1, Usual: time.Second, Then: Agent, do: nothing})
	}
	for _, app := range apps {
		if i.c.Apps == nil || slices.Contains(i.c.Apps, app.name) {
			list = append(list, Step{Name: app.name, Title: app.title, Revision: 1, Usual: 5 * time.Minute, do: app.install})
		}
	}
	if i.c.Apps == nil || slices.Contains(i.c.Apps, "browser") {
		list = append(list, Step{Name: "webgl", Title: "Setting up WebGL", Revision: 1, Usual: 10 * time.Second, do: drawWebGL})
	}
	return list
}
