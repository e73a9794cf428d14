package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// unused are settings that other versions and platforms use, each with the reason why it has no effect.
var unused = map[string]string{
	"REDIS_URL": "Redis is not needed: NATS does its job",
}

// prefixes are those of our settings' names. AWS_ is not among them, because the AWS SDK reads many more than we do.
var prefixes = []string{
	"CLOUDBOT_", "CONTROL_PLANE_", "JWT_", "ENCRYPTION_", "EC2_", "UBUNTU_AMI", "LOCAL_DEV", "LOCAL_MACHINES", "LOCAL_AGENT", "MOLTBOT_",
	"MAX_INSTANCES", "TRUSTED_", "CLIENT_ADDRESS", "CORS_", "DESKTOP_", "ADVERTISE_", "ASSETS_", "ADMIN_", "NATS_LISTEN", "NATS_REPLICAS", "NATS_EVENTS", "SIGNUP", "SHUTDOWN_", "VNC_", "KEEP_", "IDLE_", "PRICES_", "BUDGET_", "STRIPE_", "BILLING_",
}

// settings maps each setting's name to its field.
func settings() map[string]reflect.StructField {
	all := map[string]reflect.StructField{}
	addSettings(all, reflect.TypeFor[config]())
	return all
}

func addSettings(all map[string]reflect.StructField, t reflect.Type) {
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); name != "" {
			all[name] = f
		} else if f.Type.Kind() == reflect.Struct {
			addSettings(all, f.Type)
		}
	}
}

// explain turns the parser's errors, which name Go fields and types, into sentences that name settings.
func explain(err error) error {
	var parse env.ParseError
	all := env.AggregateError{}
	if !errors.As(err, &all) {
		all.Errors = []error{err}
	}
	var explained []error
	for _, one := range all.Errors {
		if !errors.As(one, &parse) {
			explained = append(explained, one)
			continue
		}
		for name, f := range settings() {
			if f.Name == parse.Name {
				explained = append(explained, fmt.Errorf("%s is %q; %s", name, os.Getenv(name), wanted(parse.Type)))
			}
		}
	}
	return errors.Join(explained...)
}

func wanted(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Bool:
		return "use true or false"
	case t.Kind() == reflect.Int:
		return "use a whole number"
	}
	return "it cannot be read"
}

// strangeNames returns a remark for each variable that looks like a setting and is not one. environ is as os.Environ
// returns it. Remarks never contain values.
func strangeNames(environ []string) []string {
	known := settings()
	var remarks []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if _, ok := known[name]; ok || value == "" {
			continue
		}
		of, file := strings.CutSuffix(name, "_FILE")
		if file && slices.Contains(secretSettings, of) {
			continue
		}
		switch why, ok := unused[name]; {
		case file && known[of].Name != "":
			remarks = append(remarks, name+" has no effect: only secrets can be given as a file")
		case ok:
			remarks = append(remarks, fmt.Sprintf("%s has no effect: %s", name, why))
		case near(name, known) != "":
			remarks = append(remarks, fmt.Sprintf("%s is not a setting; did you mean %s?", name, near(name, known)))
		case slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }):
			remarks = append(remarks, name+" is not a setting; .env.example lists them all")
		}
	}
	slices.Sort(remarks)
	return remarks
}

// near returns the setting whose name differs by one typing error: a letter missing, added or replaced, or two swapped.
func near(name string, known map[string]reflect.StructField) string {
	if len(name) < 4 {
		return ""
	}
	best := ""
	for k := range known {
		if missesByOne(strings.ToUpper(name), k) && (best == "" || k < best) {
			best = k
		}
	}
	return best
}

func missesByOne(a, b string) bool {
	if a == b {
		return true // in another case
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	x, y := a[i:], b[i:]
	switch {
	case len(x) == len(y):
		return x[1:] == y[1:] || len(x) > 1 && x[0] == y[1] && x[1] == y[0] && x[2:] == y[2:]
	case len(x) == len(y)+1:
		return x[1:] == y
	case len(y) == len(x)+1:
		return y[1:] == x
	}
	return false
}
