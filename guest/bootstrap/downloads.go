package bootstrap

import "errors"

// OpenClawAsset is the name of OpenClaw's package below /assets/.
const OpenClawAsset = "openclaw.tgz"

// Downloads lists what a control plane offers to new machines.
type Downloads struct {
	GuestSHA256 map[string]string // sha256 of the guest, by architecture; only architectures that have one
	OpenClaw    bool              // /assets/ has OpenClawAsset
}

// ErrNoGuest says that no architecture has a guest. Only the operator can change that.
var ErrNoGuest = errors.New("the assets contain no guest: put cloudbot-guest-linux-amd64 into ASSETS_DIR, or beside this program (make guests)")
