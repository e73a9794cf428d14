package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What Railway reads. It refuses a file in which a number is a string, although its own examples have that.
type railway struct {
	Schema string `json:"$schema"`
	Build  struct {
		Builder        string `json:"builder"`
		DockerfilePath string `json:"dockerfilePath"`
	} `json:"build"`
	Deploy struct {
		PreDeployCommand        []string `json:"preDeployCommand"`
		StartCommand            string   `json:"startCommand"`
		HealthcheckPath         string   `json:"healthcheckPath"`
		HealthcheckTimeout      int      `json:"healthcheckTimeout"`
		OverlapSeconds          *int     `json:"overlapSeconds"`
		DrainingSeconds         int      `json:"drainingSeconds"`
		RestartPolicyType       string   `json:"restartPolicyType"`
		RestartPolicyMaxRetries int      `json:"restartPolicyMaxRetries"`
	} `json:"deploy"`
}

func readRailway(t *testing.T, path string) (r railway) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(read(t, path)))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if _, err := os.Stat("../../" + map[bool]string{true: "deploy/railway/nats/"}[strings.Contains(path, "nats")] + r.Build.DockerfilePath); err != nil || r.Build.Builder != "DOCKERFILE" {
		t.Errorf("%s: got builder %q, %v, want DOCKERFILE and a file that exists", path, r.Build.Builder, err)
	}
	if r.Deploy.OverlapSeconds == nil {
		t.Fatalf("%s: got no overlapSeconds, want them stated", path)
	}
	return r
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// drainTime is how long requests may last after the grace; docs/production.md says so, too.
const drainTime = 25 * time.Second

// Railway waits for as long as a stopping server needs, and runs programs that are in the image.
func TestRailway(t *testing.T) {
	t.Parallel()
	r := readRailway(t, "../../railway.json")
	grace := config{Environment: "production"}.grace()
	if least := grace + drainTime; time.Duration(r.Deploy.DrainingSeconds)*time.Second < least {
		t.Errorf("drainingSeconds: got %d, want at least %v, which SHUTDOWN_GRACE and the requests in progress may take", r.Deploy.DrainingSeconds, least)
	}
	if time.Duration(*r.Deploy.OverlapSeconds)*time.Second < grace {
		t.Errorf("overlapSeconds: got %d, want at least SHUTDOWN_GRACE, %v", *r.Deploy.OverlapSeconds, grace)
	}
	if r.Deploy.HealthcheckPath != "/health" || r.Deploy.HealthcheckTimeout < 60 {
		t.Errorf("health check: got %s within %d s, want /health and a minute or more, for migrations", r.Deploy.HealthcheckPath, r.Deploy.HealthcheckTimeout)
	}
	docker := read(t, "../../Dockerfile")
	for _, command := range append(slices.Clone(r.Deploy.PreDeployCommand), r.Deploy.StartCommand) {
		program, arg, _ := strings.Cut(command, " ")
		if cmd, _, err := root().Find([]string{arg}); err != nil || cmd.Name() != arg || !strings.Contains(docker, `ENTRYPOINT ["`+program+`"]`) {
			t.Errorf("%q: got %v, want a command of the image's program", command, err)
		}
	}
	if len(r.Deploy.PreDeployCommand) != 1 || !strings.HasSuffix(r.Deploy.PreDeployCommand[0], " migrate") {
		t.Errorf("preDeployCommand: got %q, want the migrations", r.Deploy.PreDeployCommand)
	}
	// A volume belongs to one deployment at a time.
	if nats := readRailway(t, "../../deploy/railway/nats/railway.json"); *nats.Deploy.OverlapSeconds != 0 {
		t.Errorf("NATS: got an overlap of %d s, want 0", *nats.Deploy.OverlapSeconds)
	}
	if strings.Contains(docker, "\nVOLUME") || strings.Contains(docker, "--mount=type=cache") {
		t.Error("Dockerfile: got VOLUME or a cache mount, which Railway refuses")
	}
}

// The variables in the files and pages of platforms are settings, and together they are enough for production.
func TestPlatformsSetOurSettings(t *testing.T) {
	t.Parallel()
	known := settings()
	of := func(name string) bool {
		base, file := strings.CutSuffix(name, "_FILE")
		_, ok := known[base]
		secret := slices.Contains(secretSettings, base) // among them those that only the AWS SDK reads
		return secret || ok && !file
	}
	page := read(t, "../../deploy/railway/README.md")
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(page)
	if block == nil {
		t.Fatal("deploy/railway/README.md: got no block of variables, want one")
	}
	for path, at := range map[string]struct {
		text string
		line *regexp.Regexp
	}{
		"deploy/railway/README.md":    {block[1], regexp.MustCompile(`(?m)^([A-Z0-9_]+)=`)},
		"deploy/compose/compose.yaml": {section(t, read(t, "../../deploy/compose/compose.yaml"), "x-replica:", "  secrets:"), regexp.MustCompile(`(?m)^    ([A-Z0-9_]+):`)},
	} {
		set := map[string]bool{"ENVIRONMENT": true, "PORT": true} // the image and the platform set them
		for _, m := range at.line.FindAllStringSubmatch(at.text, -1) {
			if !of(m[1]) {
				t.Errorf("%s: got %s, which is not a setting", path, m[1])
			}
			set[strings.TrimSuffix(m[1], "_FILE")] = true
		}
		for name := range complete() {
			if name != "LOCAL_DEV_MODE" && !set[name] { // false in production
				t.Errorf("%s: got no %s, want all that production needs", path, name)
			}
		}
	}
	for _, want := range []string{"`REDIS_URL`", "unused", "`overlapSeconds` to 0", "TRUSTED_PROXIES=100.64.0.0/10", "CLIENT_ADDRESS_HEADER=X-Real-IP"} {
		if !strings.Contains(page, want) {
			t.Errorf("deploy/railway/README.md: got no %s, want it", want)
		}
	}
	if why := unused["REDIS_URL"]; why == "" {
		t.Error("REDIS_URL: got no reason why it is unused, want one")
	}
}

// section returns the part of text from a line to another.
func section(t *testing.T, text, from, to string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, from)
	text, _, end := strings.Cut(text, to)
	if !ok || !end {
		t.Fatalf("got no part from %q to %q, want one", from, to)
	}
	return text
}

// The containers of compose wait for as long as a stopping server needs, may write nowhere else, and open no port.
func TestComposeIsClosed(t *testing.T) {
	t.Parallel()
	text := read(t, "../../deploy/compose/compose.yaml")
	replica := section(t, text, "x-replica:", "x-nats:")
	for _, want := range []string{"read_only: true", "cap_drop: [ALL]", "no-new-privileges:true", "restart: unless-stopped", "stop_grace_period: 30s", "SIGNUP: ${SIGNUP:-invite}"} {
		if !strings.Contains(replica, want) {
			t.Errorf("replicas: got no %q, want it", want)
		}
	}
	if grace := (config{Environment: "production"}).grace(); grace+drainTime > 30*time.Second {
		t.Errorf("stop_grace_period: got 30s, want at least %v", grace+drainTime)
	}
	_, services, _ := strings.Cut(text, "\nservices:")
	if n := strings.Count(services, "ports:"); n != 1 || !strings.Contains(section(t, services, "  caddy:", "  cloudbot-1:"), "ports:") {
		t.Errorf("got %d services with ports, want 1, Caddy", n)
	}
	for _, m := range regexp.MustCompile(`(?m)^\s+(\w*(?:PASSWORD|SECRET|KEY|TOKEN|DATABASE_URL|NATS_URL)\w*): `).FindAllStringSubmatch(text, -1) {
		if !strings.HasSuffix(m[1], "_FILE") {
			t.Errorf("got the secret %s as a variable, want it as a file", m[1])
		}
	}
	if ignored := []byte(read(t, "../../.gitignore")); !bytes.Contains(ignored, []byte("/deploy/compose/secrets/\n")) || !bytes.Contains(ignored, []byte("/deploy/compose/.env\n")) {
		t.Error(".gitignore: got no secrets and .env of compose, want both")
	}
}
