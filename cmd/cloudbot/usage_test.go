package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/domain/usage"
	"github.com/cloudbot-ai/control-plane/eventstore"
)

const priced = `{"source":"a test","date":"2026-11-01","disk_gib":40,"versions":[
	{"from":"2020-01-01","regions":{"mars-1":{"hourly_micros":{"small":1500000},"disk_gib_month_micros":720000,"address_hourly_micros":5000}}},
	{"from":"2999-01-01","regions":{"mars-1":{"hourly_micros":{"small":1},"disk_gib_month_micros":1,"address_hourly_micros":1}}}]}`

// rented writes an account whose desktop ran for two hours of a month.
func rented(t *testing.T, o *operator) (account, desktop string) {
	t.Helper()
	began := time.Date(2026, 3, 31, 22, 0, 0, 0, time.UTC)
	log := o.events
	log.Now = func() time.Time { return began }
	log.DigestKey = []byte("digests")
	accounts := &commands.Accounts{Log: log, Vault: o.vault, Passwords: newPasswords(o.vault), Blind: o.vault.Blind}
	login, err := accounts.SignUp(t.Context(), commands.Origin{}, "ada@example.com", "correct horse battery", "", "a test")
	if err != nil {
		t.Fatal(err)
	}
	desktop = o.events.NewID()
	name, err := o.vault.Seal(t.Context(), login.Account, commands.NameLabel(desktop), []byte("=Desk"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []instance.Event{
		instance.Requested{Account: login.Account, Name: name, Type: "small", Region: "mars-1"},
		instance.LaunchAttempted{Attempt: 1, At: began, Spec: instance.Spec{Type: "small", Region: "mars-1", VolumeGiB: 10}},
		instance.MachineLaunched{Attempt: 1, Machine: "m", At: began}, instance.MachineRunning{Address: "192.0.2.1", At: began},
	} {
		write(t, o, desktop, began, e)
	}
	ended := began.Add(4 * time.Hour)
	write(t, o, desktop, ended, instance.MachineStopped{RunEnded: instance.RunEnded{Ended: ended}})
	if err := o.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return login.Account, desktop
}

func write(t *testing.T, o *operator, id string, at time.Time, e instance.Event) {
	t.Helper()
	stream := eventstore.StreamID{Aggregate: "instance", ID: id}
	version, err := o.events.Store.Version(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	name, schema, data, err := instance.Codec.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.events.Store.Append(t.Context(), eventstore.Append{Writes: []eventstore.Write{{Stream: stream, Expected: version, Events: []eventstore.NewEvent{
		{ID: o.events.NewID(), Type: name, Schema: schema, Time: at, Data: data},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
}

// The three forms show the same amounts, of one month and account.
func TestUsageCommand(t *testing.T) {
	run := tools(t)
	if err := os.WriteFile("prices.json", []byte(priced), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PRICES_FILE", "prices.json")
	var account, desktop string
	if err := operate(t.Context(), func(_ context.Context, o *operator) error { account, desktop = rented(t, o); return nil }); err != nil {
		t.Fatal(err)
	}
	// In March: two hours at $1.505, and two hours of 10 GiB at a cent an hour.
	out, err := run("usage", "--month", "2026-03", "--account", "ada@example.com", "--json")
	var got struct {
		Total    int64 `json:"total_micros"`
		Desktops []spending
	}
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.Total != 3_030_000 || len(got.Desktops) != 1 {
		t.Fatalf("got %s, %v, want $3.03", out, err)
	}
	if d := got.Desktops[0]; d.Account != account || d.Desktop != desktop || d.Name != "=Desk" || d.RunSeconds != 7200 || d.Compute != 3_000_000 || d.Address != 10_000 || d.Disk != 20_000 {
		t.Errorf("got %+v, want two hours of ada's desktop", d)
	}
	out, err = run("usage", "--month", "2026-03")
	if err != nil || !strings.Contains(out, "=Desk") || !strings.Contains(out, "2:00") || !strings.Contains(out, "Total: $3.03.") {
		t.Errorf("got %s, %v, want a line of ada's desktop and the total", out, err)
	}
	out, err = run("usage", "--month", "2026-04", "--csv")
	rows, csvErr := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || csvErr != nil || len(rows) < 3 || strings.Join(rows[1], " ") != "2026-04-01 "+account+" "+desktop+" '=Desk small 7200 3.000000 0.240000 0.010000 0.000000 3.250000" {
		t.Errorf("got %q, %v, want April's first day", rows[:min(2, len(rows))], err)
	}
	for _, args := range [][]string{{"usage", "--month", "2999-01"}, {"usage", "--month", "march"}, {"usage", "--csv", "--json"}, {"usage", "--account", "eve@example.com"}, {"usage", "x"}} {
		if out, err := run(args...); err == nil {
			t.Errorf("%v: got %s, want an error", args, out)
		}
	}
	if err := os.WriteFile("prices.json", []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run("usage"); err == nil || !strings.Contains(err.Error(), "PRICES_FILE") {
		t.Errorf("got %v, want an error that names PRICES_FILE", err)
	}
}

func TestPricesCommand(t *testing.T) {
	run := tools(t)
	if out, err := run("prices"); err != nil || !strings.Contains(out, "t3.large") || !strings.Contains(out, "$0.0832 an hour") {
		t.Errorf("got %s, %v, want the built-in list", out, err)
	}
	file := filepath.Join(t.TempDir(), "prices.json")
	for text, want := range map[string]string{
		priced: "", `{"source":"x"}`: "date", `not JSON`: "not a price list", strings.Replace(priced, "1500000", "1.5", 1): "not a price list", strings.Replace(priced, "1500000", "-1", 1): "hourly_micros of small",
		strings.Replace(priced, "2999", "2019", 1): "is not after", strings.Replace(priced, `"date"`, `"Dates"`, 1): "unknown field",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := run("prices", "--check", file)
		if want == "" && (err != nil || !strings.Contains(out, "$1.50 an hour") || !strings.Contains(out, "Other prices apply from 2999-01-01.")) {
			t.Errorf("got %s, %v, want the file's prices of today", out, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file)) {
			t.Errorf("%s: got %s, %v, want an error about %s", text, out, err, want)
		}
	}
	if _, err := run("prices", "--check", "nothing.json"); err == nil {
		t.Error("got no error for a file that does not exist, want one")
	}
	var out bytes.Buffer
	list, err := usage.Parse([]byte(priced))
	if err != nil {
		t.Fatal(err)
	}
	if err := printPrices(&out, list, config{EC2: ec2Config{Region: "eu-central-1"}}, time.Now()); err != nil || !strings.Contains(out.String(), "no prices for eu-central-1") {
		t.Errorf("got %s, %v, want a remark about the server's region", out.String(), err)
	}
}

func TestMoneySettings(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"": 0, "500": 500_000_000, "499.5": 499_500_000, "0.000001": 1} {
		if c := (config{MonthTotal: text}); c.checkMoney() != nil || c.ceiling() != want {
			t.Errorf("%q: got %d, %v, want %d", text, c.ceiling(), c.checkMoney(), want)
		}
	}
	for _, text := range []string{"0", "-1", "5e2", "1,000", "$5", "0.0000001", "lots"} {
		if err := (config{MonthTotal: text}).checkMoney(); err == nil || !strings.Contains(err.Error(), "BUDGET_MONTH_TOTAL") {
			t.Errorf("%q: got %v, want a refusal that names BUDGET_MONTH_TOTAL", text, err)
		}
	}
	if err := (config{PricesFile: "/nothing/here"}).checkMoney(); err == nil || !strings.Contains(err.Error(), "PRICES_FILE") {
		t.Errorf("got %v, want a refusal that names PRICES_FILE", err)
	}
}
