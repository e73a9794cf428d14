package pgtest

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// Role creates a role for the test and returns databaseURL with that role. options are those of CREATE ROLE, such as
// "CONNECTION LIMIT 10"; rights are statements that grant it some, in which ROLE_ and DATABASE_ stand for the
// names. Without them the role can only connect.
func Role(t testing.TB, databaseURL, options string, rights ...string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	role := fmt.Sprintf("%s_role_%d", database, server.made.Add(1))
	admin := in(server.admin, database)
	must := func(sql string) {
		t.Helper()
		if err := server.exec(admin, strings.NewReplacer("ROLE_", role, "DATABASE_", database).Replace(sql)); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	must("CREATE ROLE ROLE_ LOGIN PASSWORD 'ROLE_' " + options)
	t.Cleanup(func() {
		must("REASSIGN OWNED BY ROLE_ TO CURRENT_USER")
		must("DROP OWNED BY ROLE_")
		must("DROP ROLE ROLE_")
	})
	for _, sql := range rights {
		must(sql)
	}
	if query := u.Query(); query.Get("user") != "" {
		query.Set("user", role)
		u.RawQuery = query.Encode()
	} else {
		u.User = url.UserPassword(role, role)
	}
	return u.String()
}
