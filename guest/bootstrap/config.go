package bootstrap

import (
	"encoding/json"
	"errors"
	"strings"
)

// ProcessConfig takes the guest's configuration out of rendered user-data, for who runs a machine as a
// process instead of a computer: nothing is installed, and desktop and agent are what is there.
// state is the machine's folder, boot its boot id.
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
