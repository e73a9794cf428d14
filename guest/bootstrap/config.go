package bootstrap

import (
	"encoding/json"
	"errors"
	"strings"
)

// ProcessConfig extracts the guest's configuration from rendered user-data, for a machine that is a process instead of a
// computer: the guest installs nothing and uses the desktop and agent that exist. state is the machine's folder, boot its
// boot id.
func ProcessConfig(userData, state, boot string) ([]byte, error) {
	_, text, _ := strings.Cut(userData, "put /etc/cloudbot/guest.json 600 <<'CLOUDBOT_DATA'\n")
	text, _, ok := strings.Cut(text, "\nCLOUDBOT_DATA\n")
	var config struct {
		URL      string `json:"control_plane_url"`
		Instance string `json:"instance"`
		Token    string `json:"token"`
	}
	if !ok || json.Unmarshal([]byte(text), &config) != nil || config.Token == "" {
		return nil, errors.New("this is not the user-data of a machine")
	}
	return json.Marshal(map[string]string{
		"control_plane_url": config.URL, "instance": config.Instance, "token": config.Token, "state_dir": state, "boot": boot,
	})
}
