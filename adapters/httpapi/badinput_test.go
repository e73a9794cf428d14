package httpapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// badPolicies are invalid idle policies.
var badPolicies = []string{
	``, `{}`, `{"policy":{}}`, `{"policy":[]}`, `{"policy":"none"}`, `{"policy":0}`, `{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0}}`, `{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"never"}}`,
	`{"policy":{"after_s":299,"warn_s":60,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":-1,"warn_s":0,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":604801,"warn_s":60,"ceiling_s":0,"jobs":"wake"}}`,
	`{"policy":{"after_s":600,"warn_s":600,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":600,"warn_s":-1,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":600,"warn_s":60,"ceiling_s":599,"jobs":"wake"}}`,
	`{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"wake","keep_until":"soon"}}`, `{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"wake","keep_until":"2999-01-01T00:00:00Z"}}`,
	`{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"wake","x` + strings.Repeat("y", 50) + canary + `":1}}`, `{"policy":{"after_s":"600","warn_s":60,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":600.5,"warn_s":60,"ceiling_s":0,"jobs":"wake"}}`,
	`{"policy":{"after_s":null,"warn_s":60,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":600,"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"wake"}}`, `{"policy":{"after_s":600,"warn_s":60,"ceiling_s":0,"jobs":"wake"}`,
	`{"policy":` + strings.Repeat(`{"policy":`, 10000),
}

// TestBadInput sends invalid input to every call that has a body or an id. It is refused with a problem document,
// nothing is written, and no secret in it reaches an answer or the server's log.
func TestBadInput(t *testing.T) {
	t.Parallel()
	required := map[string][]string{
		"signUp": {"email", "password"}, "logIn": {"email", "password"}, "refresh": {"refresh_token"}, "changePassword": {"current_password", "new_password"},
		"createInstance": nil, "renameInstance": {"name"}, "issueTicket": {"kind"}, "storeKey": {"provider", "api_key"}, "replaceKey": {"api_key"},
		"extendInstance": nil, "setInstanceIdlePolicy": nil, "setAccountIdlePolicy": nil, "setBudget": nil,
		"createCheckout": {"plan_type", "success_url", "cancel_url"}, "openPortal": {"return_url"}, "cancelSubscription": nil, "resumeSubscription": nil, "syncPayments": nil,
		"logOut": nil, "stopInstance": nil, "startInstance": nil, "terminateInstance": nil,
	}
	first := map[string]string{"createInstance": "name"}
	special := map[string][]string{
		"signUp": {
			`{"email":"no address","password":"` + canary + `"}`, `{"email":"` + strings.Repeat("a", 250) + `@example.com","password":"` + canary + `"}`,
			`{"email":"a@b","password":"` + canary + `"}`, `{"email":"x@example.com\u0000","password":"` + canary + `"}`, `{"email":"x@example.com","password":"1234567"}`,
			`{"email":"x@example.com","password":"` + strings.Repeat(canary, 3) + `"}`, `{"email":"","password":""}`,
		},
		"logIn":          {`{"email":"ada@example.com","password":"` + canary + `junk"}`, `{"email":"","password":""}`, `{"email":"\ufeff","password":"` + canary + `"}`},
		"refresh":        {`{"refresh_token":""}`, `{"refresh_token":"` + canary + `"}`},
		"changePassword": {`{"current_password":"no","new_password":"` + canary + `"}`, `{"current_password":"` + canary + `","new_password":"1"}`},
		"createInstance": {
			`{"instance_type":"m5.24xlarge"}`, `{"name":"` + strings.Repeat("é", 65) + `"}`, `{"name":"a\u0007b"}`, `{"name":"a\u202eb"}`, `{"region":"mars"}`,
			`{"api_keys":"` + canary + `"}`, `{"api_keys":["` + canary + `"]}`, `{"api_keys":{"openai":{"a":"` + canary + `"}}}`, `{"api_keys":{"openai":1}}`, `{"api_keys":{"openai":null}}`,
			`{"api_keys":{"openai":"` + canary + `","openai":"` + canary + `"}}`, `{"api_keys":{"openai":"` + canary + `","OPENAI_API_KEY":"` + canary + `"}}`,
			`{"api_keys":{"openai":"` + canary + `"`, `{"api_keys":{"openai":"short"}}`, `{"api_keys":{"openai":"` + canary + ` x"}}`, `{"api_keys":{"":"` + canary + `"}}`,
			`{"api_keys":{"openai":"` + canary + `","ACME_API_KEY":"` + canary + `"}}`, `{"api_keys":{"` + strings.Repeat("y", 50) + canary + `":"1"}}`,
			`{"api_keys":` + manyNames(maxTable+1) + `}`, `{"api_keys":` + strings.Repeat(`{"a":`, 10000),
		},
		"renameInstance": {`{"name":""}`, `{"name":"   "}`, `{"name":"` + strings.Repeat("x", 65) + `"}`, `{"name":"a\nb"}`},
		"issueTicket":    {`{"kind":"ssh"}`, `{"kind":"vnc","mode":"root"}`, `{"kind":""}`},
		"storeKey": {
			`{"provider":"unknown","api_key":"` + canary + `"}`, `{"provider":"openai","api_key":"short"}`, `{"provider":"openai","api_key":"` + canary + ` with space"}`,
			`{"provider":"openai","api_key":"` + strings.Repeat(canary, 40) + `"}`, `{"provider":"","api_key":""}`,
		},
		"extendInstance": {
			``, `{}`, `{"minutes":null}`, `{"minutes":0}`, `{"minutes":-1}`, `{"minutes":1441}`, `{"minutes":1.5}`, `{"minutes":1e2}`, `{"minutes":"60"}`, `{"minutes":true}`,
			`{"minutes":[60]}`, `{"minutes":99999999999999999999}`, `{"minutes":60,"minutes":60}`, `{"Minutes":60}`, `{"minutes":60,"until":"` + canary + `"}`,
		},
		"setInstanceIdlePolicy": badPolicies, "setAccountIdlePolicy": badPolicies,
		"setBudget": {
			``, `{}`, `{"scope":"account"}`, `{"scope":"account","day_micros":1000000}`, `{"scope":"account","day_micros":0,"month_micros":null}`, `{"scope":"account","day_micros":null,"month_micros":-1}`,
			`{"scope":"account","day_micros":9999,"month_micros":null}`, `{"scope":"account","day_micros":null,"month_micros":1000000000001}`, `{"scope":"account","day_micros":"1","month_micros":null}`,
			`{"scope":"account","day_micros":1000000.5,"month_micros":null}`, `{"scope":"account","day_micros":9223372036854775808,"month_micros":null}`, `{"scope":null,"day_micros":null,"month_micros":null}`,
			`{"scope":"` + canary + `","day_micros":1000000,"month_micros":null}`, `{"scope":"","day_micros":1000000,"month_micros":null}`, `{"scope":"installation","day_micros":1000000,"month_micros":null}`,
			`{"scope":"01JZ8Q3M5T9V2X4Y6A8C0E2G4J","day_micros":1000000,"month_micros":null}`, `{"scope":"account","day_micros":{"a":1},"month_micros":null}`,
		},
		"createCheckout": {
			`{"plan_type":"gold","success_url":"` + returnTo + `","cancel_url":"` + returnTo + `"}`, `{"plan_type":"","success_url":"` + returnTo + `","cancel_url":"` + returnTo + `"}`,
			`{"plan_type":"pro","success_url":"","cancel_url":"` + returnTo + `"}`, `{"plan_type":"pro","success_url":"` + returnTo + `","cancel_url":"/app"}`,
			`{"plan_type":"pro","success_url":"https://elsewhere.example/` + canary + `","cancel_url":"` + returnTo + `"}`, `{"plan_type":"pro","success_url":"` + returnTo + `","cancel_url":"https://app.example.com.elsewhere.example"}`,
			`{"plan_type":"pro","success_url":"https://app.example.com@elsewhere.example/","cancel_url":"` + returnTo + `"}`, `{"plan_type":"pro","success_url":"javascript:alert(1)","cancel_url":"` + returnTo + `"}`,
			`{"plan_type":"pro","success_url":"http://app.example.com/","cancel_url":"` + returnTo + `"}`, `{"plan_type":"pro","success_url":"` + returnTo + strings.Repeat("a", 2048) + `","cancel_url":"` + returnTo + `"}`,
			`{"plan_type":"pro","success_url":"` + returnTo + `\r\nx","cancel_url":"` + returnTo + `"}`, `{"plan_type":"pro","success_url":"//elsewhere.example/","cancel_url":"` + returnTo + `"}`,
		},
		"openPortal": {`{"return_url":""}`, `{"return_url":"/app"}`, `{"return_url":"https://elsewhere.example/` + canary + `"}`, `{"return_url":"` + returnTo + `\u0000"}`},
		"replaceKey": {`{"api_key":"x"}`, `{"api_key":"` + canary + `\n` + canary + `"}`},
	}
	for _, op := range operations(t, loadDocument(t)) {
		fields, takesBody := required[op.id]
		if !takesBody && !op.object {
			continue
		}
		t.Run(op.id, func(t *testing.T) {
			t.Parallel()
			change := func(c *Config) {
				c.Chats = fakeChats{savedText, c.Instances.Find}
				c.Limits.LoginAccount, c.Limits.SignUpAccount, c.Limits.SignUpAddress, c.Limits.Password, c.Limits.Payments = Rate{Limit: -1}, Rate{Limit: -1}, Rate{Limit: -1}, Rate{Limit: -1}, Rate{Limit: -1}
			}
			if op.tag == "payments" {
				change = withPlans(&fakeStripe{}, change)
			}
			f := newFront(t, change)
			ada := f.estate("ada@example.com")
			token := ada.access
			if !op.signedIn {
				token = ""
			}
			good := op.call(ada, token)
			before := f.head()
			refuse := func(what string, c call) {
				t.Helper()
				a := f.do(c)
				if a.status < 400 || a.status >= 500 {
					t.Errorf("%s: got %d %s, want a status of 400 to 499", what, a.status, a.body)
				} else if a.field(t, "detail") == "" || a.field(t, "code") == "" || a.field(t, "request_id") == "" {
					t.Errorf("%s: got %s, want a problem with detail, code and request_id", what, a.body)
				}
				if strings.Contains(string(a.body), canary) {
					t.Errorf("%s: got an answer with a secret, want none: %s", what, a.body)
				}
			}
			body := func(text string) call {
				c := good
				c.body = text
				return c
			}
			if takesBody {
				field := "x"
				if len(fields) > 0 {
					field = fields[0]
				} else if first[op.id] != "" {
					field = first[op.id]
				}
				rest := ""
				for _, name := range fields {
					if name != field {
						rest += `,"` + name + `":"` + canary + `"`
					}
				}
				bad := map[string]string{
					"number": `{"` + field + `":1` + rest + `}`, "bool": `{"` + field + `":true` + rest + `}`, "array": `{"` + field + `":["` + canary + `"]` + rest + `}`,
					"object": `{"` + field + `":{"a":"` + canary + `"}` + rest + `}`, "unknown": `{"admin":"true"` + rest + `}`, "unknown secret": `{"x` + strings.Repeat("y", 50) + canary + `":"1"}`,
					"upper case": `{"` + strings.ToUpper(field) + `":"` + canary + `"` + rest + `}`, "twice": `{"` + field + `":"a","` + field + `":"b"` + rest + `}`,
					"list": `[]`, "null": `null`, "string": `"` + canary + `"`, "cut": `{"` + field + `":"` + canary, "no json": canary, "trailing": `{} {}`, "trailing garbage": `{}x`,
					"deep": strings.Repeat(`{"a":`, 10000), "deep list": strings.Repeat("[", 20000), "not UTF-8": "{\"" + field + "\":\"\xff\"" + rest + "}",
					"huge": `{"` + field + `":"` + strings.Repeat("a", maxBody) + `"}`, "prototype": `{"__proto__":{}}`, "comment": `{/*x*/}`,
				}
				if len(fields) > 0 {
					bad["null field"], bad["empty object"], bad["empty"] = `{"`+field+`":null`+rest+`}`, `{}`, ""
				}
				for i, s := range special[op.id] {
					bad["special "+string(rune('a'+i))] = s
				}
				for _, what := range slices.Sorted(maps.Keys(bad)) {
					refuse(what, body(bad[what]))
				}
				for what, kind := range map[string]string{
					"form": "application/x-www-form-urlencoded", "text": "text/plain", "none": "", "latin": "application/json; charset=latin1", "bad": "application/json;;;=",
				} {
					c := body(`{"a":"b"}`)
					c.header = map[string]string{"Content-Type": kind}
					refuse("as "+what, c)
				}
				c := body(`{"a":"b"}`)
				c.header = map[string]string{"Content-Encoding": "gzip"}
				refuse("gzip", c)
			}
			if op.object && op.signedIn {
				for _, id := range []string{
					"x", "0", "-1", ada.account, strings.ToLower(ada.instance), ada.instance + "0", ada.instance[:25], "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "null", "*",
					"01JZ8Q3M5T9V2X4Y6A8C0E2G4J", "instance", "%27%20or%201=1", strings.Repeat("A", 900), "..", "%2e%2e", ada.instance + "%00", "a%2Fb", "🦜",
				} {
					c := good
					c.path = strings.NewReplacer("{id}", id, "{provider}", id, "{report}", "log").Replace(op.path)
					if a := f.do(c); a.status != 404 {
						t.Errorf("id %q: got %d %s, want 404", id, a.status, a.body)
					}
				}
			}
			if strings.Contains(strings.Join(documentedHeaders(t, op), " "), "Idempotency-Key") {
				for _, key := range []string{strings.Repeat("k", 129), "with space", "ümlaut", "tab\tkey", ""} {
					c := good
					c.header = map[string]string{"Idempotency-Key": key}
					refuse("key "+key, c)
				}
			}
			if n := f.head() - before; n != 0 {
				t.Errorf("events written: got %d, want 0", n)
			}
			if strings.Contains(f.log.String(), canary) {
				t.Error("server's log: got a secret, want none")
			}
		})
	}
}

func documentedHeaders(t *testing.T, o operation) (names []string) {
	t.Helper()
	for _, p := range loadDocument(t).Paths.Find(o.path).GetOperation(o.method).Parameters {
		if p.Value.In == "header" {
			names = append(names, p.Value.Name)
		}
	}
	return names
}

func TestBadQueriesAreRefused(t *testing.T) {
	t.Parallel()
	f := newFront(t, nil)
	ada := f.estate("ada@example.com")
	for _, q := range []string{
		"/api/instances?limit=0", "/api/instances?limit=101", "/api/instances?limit=x", "/api/instances?limit=9999999999999999999999",
		"/api/instances?cursor=!!", "/api/instances?cursor=aW5zdGFuY2VzOic", "/api/instances?include=everything",
		"/api/instances/" + ada.instance + "/history?cursor=aGlzdG9yeTotMQ", "/api/instances/" + ada.instance + "/history?limit=-5", "/api/instances/" + ada.instance + "/history?order=up",
		"/api/usage?month=2026-13", "/api/usage?month=2026-1", "/api/usage?month=2019-12", "/api/usage?month=2999-01", "/api/usage?month=november", "/api/usage?month=2026-01-01", "/api/usage.csv?month=0001-01", "/api/usage.csv?month=%0a2026-01",
		"/api/events?after=x", "/api/events?after=-1",
	} {
		if a := f.do(call{method: "GET", path: q, token: ada.access}); a.status != 400 && a.status != 422 {
			t.Errorf("%s: got %d %s, want 400 or 422", q, a.status, a.body)
		}
	}
	for name, value := range map[string]string{"Cloudbot-Wait-For": "soon", "Authorization": "Basic YTpi"} {
		a := f.do(call{method: "GET", path: "/api/instances", token: ada.access, header: map[string]string{name: value}})
		if a.status != 400 && a.status != 401 {
			t.Errorf("%s: %s: got %d, want 400 or 401", name, value, a.status)
		}
	}
	// A token in a URL does not count.
	f.want(401, call{method: "GET", path: "/api/instances?access_token=" + ada.access + "&token=" + ada.access})
	if strings.Contains(f.log.String(), ada.access) {
		t.Error("server's log: got a query, want none")
	}
}

// manyNames returns an object with n entries.
func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"n%d":"v"`, i)
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

func FuzzParseBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":"b"}`, `{"a":null}`, `{"a":"b"}{}`, `[`, `{"a":{"b":1}}`, `{"a":"b","a":"c"}`, `{"a":"b","t":{"x":"y"}}`, `{"a":"b","t":{"x":{}}}`, `{"a":"b","n":1,"o":{"n":null}}`, `{"a":"b","o":{"n":1e9}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b string
		var n int64
		var none bool
		err := parseBody(data, []field{{name: "a", into: &a}, {name: "b", into: &b, optional: true}, {name: "t", optional: true, table: map[string]string{}},
			{name: "n", optional: true, number: &n}, {name: "o", optional: true, object: []field{{name: "n", number: &n, null: &none}}}})
		if err == nil && !strings.Contains(string(data), `"`) {
			t.Errorf("%q: got no error, want one", data)
		}
		if err != nil && refused(err).status/100 != 4 {
			t.Errorf("%q: got %v, want an error with a status of 400 to 499", data, err)
		}
	})
}
