package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// complete is the minimum for production, with machines on EC2.
func complete() map[string]string {
	return map[string]string{
		"ENVIRONMENT": "production", "CONTROL_PLANE_URL": "https://cloudbot.example", "DATABASE_URL": "postgres://cloudbot@db/cloudbot",
		"TRUSTED_PROXIES": "10.0.0.0/8", "LOCAL_DEV_MODE": "false",
		"JWT_SECRET_KEY": "aOQ1hGqK8v3ZbXyT5wRm7NcLs2PfDj9E", "JWT_REFRESH_SECRET_KEY": "bPR2iHrL9w4AcYzU6xSn8OdMt3QgEk0F",
		"ENCRYPTION_KEY": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
		"AWS_REGION":     "eu-central-1", "UBUNTU_AMI_ID": "ami-0123456789abcdef0", "EC2_SUBNET_ID": "subnet-0123456789abcdef0",
		"EC2_SECURITY_GROUP_ID": "sg-0123456789abcdef0",
	}
}

// load reads the configuration from only these variables.
func load(t *testing.T, set map[string]string) error {
	t.Helper()
	t.Chdir(t.TempDir()) // away from a developer's .env
	for name := range settings() {
		t.Setenv(name, set[name])
	}
	_, err := loadConfig()
	return err
}

// The server refuses to start with settings that strangers could abuse, each in one sentence that names the setting.
func TestProductionRefusesWhatStrangersCouldAbuse(t *testing.T) {
	if err := load(t, complete()); err != nil {
		t.Fatalf("a complete configuration: got %v, want no error", err)
	}
	for name, c := range map[string]struct {
		setting, value, want string // want "": accepted
	}{
		"plain http":                  {"CONTROL_PLANE_URL", "http://cloudbot.example", "must be https"},
		"plain http on loopback":      {"CONTROL_PLANE_URL", "http://127.0.0.1:8000", ""},
		"plain http on loopback, v6":  {"CONTROL_PLANE_URL", "http://[::1]:8000", ""},
		"plain http on localhost":     {"CONTROL_PLANE_URL", "http://localhost:8000", ""},
		"a host that only looks so":   {"CONTROL_PLANE_URL", "http://localhost.example", "must be https"},
		"an address that is all":      {"CONTROL_PLANE_URL", "http://0.0.0.0:8000", "must be https"},
		"no URL":                      {"CONTROL_PLANE_URL", "", "CONTROL_PLANE_URL is empty"},
		"a path":                      {"CONTROL_PLANE_URL", "https://example.org/cloudbot", "with a path"},
		"a path no script can hold":   {"CONTROL_PLANE_URL", "https://cloudbot.example/a%20b", "with a path"},
		"a slash at the end":          {"CONTROL_PLANE_URL", "https://cloudbot.example/", ""},
		"two slashes at the end":      {"CONTROL_PLANE_URL", "https://cloudbot.example//", "with a path"},
		"a colon at the end":          {"CONTROL_PLANE_URL", "https://cloudbot.example:", "a colon and no port"},
		"a name browsers rewrite":     {"CONTROL_PLANE_URL", "https://bücher.example", "xn--"},
		"a password, no scheme":       {"CONTROL_PLANE_URL", "u:hunter2@cloudbot.example", "not an http or https URL"},
		"a query":                     {"CONTROL_PLANE_URL", "https://cloudbot.example?a=b", "with a query"},
		"a password":                  {"CONTROL_PLANE_URL", "https://u:hunter2@cloudbot.example", "with a user name"},
		"another scheme":              {"CONTROL_PLANE_URL", "ftp://cloudbot.example", "not an http or https URL"},
		"proxies unknown":             {"TRUSTED_PROXIES", "", "TRUSTED_PROXIES is empty"},
		"no proxies":                  {"TRUSTED_PROXIES", "none", ""},
		"a lone proxy":                {"TRUSTED_PROXIES", "10.1.2.3, 2001:db8::/64", ""},
		"the whole internet":          {"TRUSTED_PROXIES", "0.0.0.0/0", "every address"},
		"the whole internet, mapped":  {"TRUSTED_PROXIES", "::ffff:0.0.0.0/96", "every address"},
		"no range":                    {"TRUSTED_PROXIES", "loadbalancer", "not an address range"},
		"none and more":               {"TRUSTED_PROXIES", "none,10.0.0.0/8", "not an address range"},
		"the other header":            {"CLIENT_ADDRESS_HEADER", "x-real-ip", ""},
		"a header that is none":       {"CLIENT_ADDRESS_HEADER", "True-Client-IP", "choose X-Forwarded-For or X-Real-IP"},
		"no database":                 {"DATABASE_URL", "", "DATABASE_URL is empty"},
		"a boolean that is none":      {"LOCAL_DEV_MODE", "maybe", `LOCAL_DEV_MODE is "maybe"; use true or false`},
		"a number that is none":       {"MAX_INSTANCES_PER_USER", "many", `MAX_INSTANCES_PER_USER is "many"; use a whole number`},
		"no ceiling by number":        {"MAX_INSTANCES_TOTAL", "0", "MAX_INSTANCES_TOTAL is 0; use a number from 1, or leave it out"},
		"too little to watch with":    {"VNC_MAX_BYTES_PER_SECOND", "100", "VNC_MAX_BYTES_PER_SECOND is 100; use 16384 or more, or 0 for no limit"},
		"too many replicas":           {"NATS_REPLICAS", "6", "NATS_REPLICAS is 6; use 1 to 5, or 0"},
		"fewer than none":             {"NATS_REPLICAS", "-1", "NATS_REPLICAS is -1; use 1 to 5, or 0"},
		"replicas of one server":      {"NATS_REPLICAS", "3", "the in-process NATS is one server"},
		"a cluster":                   {"NATS_URL", "nats://a:4222,nats://b:4222,nats://c:4222", ""},
		"an age of the stream":        {"NATS_EVENTS_MAX_AGE", "720h", ""},
		"too young a stream":          {"NATS_EVENTS_MAX_AGE", "10m", `NATS_EVENTS_MAX_AGE is "10m"; use a duration of 1h or more`},
		"an age that is none":         {"NATS_EVENTS_MAX_AGE", "a month", `NATS_EVENTS_MAX_AGE is "a month"; use`},
		"too small a stream":          {"NATS_EVENTS_MAX_MB", "1", "NATS_EVENTS_MAX_MB is 1; use 16 to"},
		"neither on nor off":          {"DESKTOP_SUDO", "no", `DESKTOP_SUDO is "no"; choose on or off`},
		"sudo off":                    {"DESKTOP_SUDO", "off", ""},
		"an agent that is no path":    {"LOCAL_AGENT", "openclaw", `LOCAL_AGENT is "openclaw"; use the absolute path`},
		"no agent":                    {"LOCAL_AGENT", "stand-in", ""},
		"a number in the EC2 section": {"EC2_VOLUME_GIB", "40 GiB", `EC2_VOLUME_GIB is "40 GiB"; use a whole number`},
	} {
		t.Run(name, func(t *testing.T) {
			set := complete()
			set[c.setting] = c.value
			err := load(t, set)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v; want %q", err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "strconv") || strings.Contains(oneLine(err), "\n")) {
				t.Errorf("got %v, want one line without values or Go's words", err)
			}
		})
	}
}

// The terminal gets one line, with what was being done when several things failed.
func TestOneLineKeepsWhatWasDone(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("the account is locked: %w; run this again", errors.Join(errors.New("a"), errors.Join(errors.New("b"), errors.New("c"))))
	if got, want := oneLine(err), "the account is locked: a; b; c; run this again"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := oneLine(fmt.Errorf("load x: %w: %w", errors.New("damaged"), errors.New("why"))), "load x: damaged: why"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Replicas without a common NATS do not see each other.
func TestADatabaseWithoutNATSIsRemarked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg  config
		want bool
	}{
		{config{DatabaseURL: "postgres://db"}, true}, {config{DatabaseURL: "postgres://db", NATSURL: "nats://n"}, false}, {config{}, false},
	} {
		if said := strings.Join(c.cfg.remarks(nil), ";"); strings.Contains(said, "only one replica") != c.want {
			t.Errorf("%+v: got %q, want a remark %v", c.cfg, said, c.want)
		}
	}
}

// A server that a tunnel or a proxy opens to strangers still listens on loopback.
func TestAPublicURLOfLocalMachinesIsRemarked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg  config
		want bool
	}{
		{config{LocalDevMode: true, PublicURL: "https://cloudbot.example"}, true},
		{config{LocalDevMode: true, PublicURL: "http://127.0.0.1:8000"}, false},
		{config{LocalDevMode: true}, false},
		{config{PublicURL: "https://cloudbot.example"}, false},
		{config{LocalDevMode: true, GiveShells: true, PublicURL: "https://cloudbot.example"}, false}, // logged by warnOfShells
	} {
		if said := strings.Join(c.cfg.remarks(nil), ";"); strings.Contains(said, "a shell on this computer") != c.want {
			t.Errorf("%+v: got %q, want a remark %v", c.cfg, said, c.want)
		}
	}
}

// An IPv4 range in IPv6 notation is the IPv4 range.
func TestMappedProxyRange(t *testing.T) {
	t.Parallel()
	got, err := config{Proxies: "::ffff:10.0.0.0/104"}.proxies()
	if err != nil || len(got) != 1 || got[0].String() != "10.0.0.0/8" {
		t.Errorf("got %v, %v, want 10.0.0.0/8", got, err)
	}
}

// Variables that look like settings but are none are named; their values are not.
func TestStrangeNames(t *testing.T) {
	t.Parallel()
	for e, want := range map[string]string{
		"PROT=9000":                       "PROT is not a setting; did you mean PORT?",
		"HOTS=::":                         "HOTS is not a setting; did you mean HOST?",
		"DATABSE_URL=postgres://u:pw@h/d": "DATABSE_URL is not a setting; did you mean DATABASE_URL?",
		"AWS_REIGON=eu-central-1":         "AWS_REIGON is not a setting; did you mean AWS_REGION?",
		"database_url=x":                  "database_url is not a setting; did you mean DATABASE_URL?",
		"JWT_SECRET=x":                    "JWT_SECRET is not a setting; .env.example lists them all",
		"MAX_INSTANCES=3":                 "MAX_INSTANCES is not a setting; .env.example lists them all",
		"STRIPE_SECRET_KEY=sk_live_pw":    "",
		"STRIPE_PRICE_STARTER=price_1":    "STRIPE_PRICE_STARTER is not a setting; .env.example lists them all",
		"REDIS_URL=redis://x":             "REDIS_URL has no effect: Redis is not needed: NATS does its job",
		"PORT=9000":                       "",
		"PROT=":                           "",
		"JWT_SECRET_KEY_FILE=/run/s":      "",
		"SIGNUP_FILE=/run/s":              "SIGNUP_FILE has no effect: only secrets can be given as a file",
		"HOME=/root":                      "",
		"HOSTNAME=box":                    "",
		"PATH=/bin":                       "",
		"AWS_PROFILE=x":                   "",
		"NATS_SERVICE_HOST=10.0.0.1":      "", // Kubernetes sets it
	} {
		said := strings.Join(strangeNames([]string{e}), "; ")
		if said != want || strings.Contains(said, "pw") {
			t.Errorf("%s: %q, want %q", e, said, want)
		}
	}
	if all := settings(); all["EC2_SUBNET_ID"].Type != reflect.TypeFor[string]() || all["LOCAL_DEV_MODE"].Type != reflect.TypeFor[bool]() {
		t.Errorf("settings: got %v, want EC2_SUBNET_ID as a string and LOCAL_DEV_MODE as a bool", all)
	}
}
