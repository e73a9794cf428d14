package install

import (
	"context"
	"embed"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// unitFiles contains the units of desktop and agent. The guest starts them once their secrets are in /run.
//
//go:embed units
var unitFiles embed.FS

// xfceFiles contains the desktop's default settings; the user's own override them.
//
//go:embed files
var xfceFiles embed.FS

const (
	unitDir   = "/etc/systemd/system"
	xfceDir   = "/usr/local/share/cloudbot/xdg/xfce4/xfconf/xfce-perchannel-xml"
	wallpaper = "/usr/local/share/cloudbot/wallpaper.jpg"
	home      = "/home/" + User
)

func makeUser(ctx context.Context, i *Installer) (string, error) {
	if err := i.command(ctx, "id", "-u", User); err == nil {
		return "", nil
	}
	return "", i.command(ctx, "useradd", "--create-home", "--home-dir", home, "--shell", "/bin/bash", User)
}

// desktopPackages is a small XFCE: for a remote desktop more is not worth it.
const desktopPackages = "tigervnc-standalone-server xauth x11-xserver-utils dbus dbus-x11 xfce4-session xfwm4 xfdesktop4 xfce4-panel xfce4-settings " +
	"xfce4-terminal thunar xfce4-appfinder adwaita-icon-theme fonts-dejavu-core xdg-utils xdotool"

func installTools(ctx context.Context, i *Installer) (string, error) {
	return "", i.aptInstall(ctx, strings.Fields(pinned("tools"))...)
}

func installDesktop(ctx context.Context, i *Installer) (string, error) {
	if err := i.aptInstall(ctx, strings.Fields(desktopPackages)...); err != nil {
		return "", err
	}
	if err := errors.Join(i.copyFiles(unitFiles, "units", unitDir), i.copyFiles(xfceFiles, "files", xfceDir)); err != nil {
		return "", err
	}
	return "XFCE on TigerVNC", i.reloadUnits(ctx)
}

// booted reports whether systemd runs here; while an image is baked it may not.
func (i *Installer) booted() bool {
	_, err := os.Stat(i.path("/run/systemd/system"))
	return err == nil
}

func (i *Installer) copyFiles(from fs.FS, dir, to string) error {
	entries, err := fs.ReadDir(from, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		text, err := fs.ReadFile(from, path.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if err := i.put(path.Join(to, e.Name()), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func hangWallpaper(ctx context.Context, i *Installer) (string, error) {
	err := i.asset(ctx, "wallpaper.jpg", wallpaper, 0o644)
	if errors.Is(err, errNone) {
		return "none: the control plane has no wallpaper", nil
	}
	return "", err
}

func nothing(context.Context, *Installer) (string, error) { return "", nil }
