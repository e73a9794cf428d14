package httpapi

import (
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

// route is one line of the table below.
type route struct {
	method, path string
	handle       echo.HandlerFunc
	long         bool  // stays open: without a deadline, and not counted as a request in flight
	scope        scope // that an API token needs; "": none is enough, it takes a log-in
}

// routes lists every operation of api/openapi.yaml, and nothing else.
func (s *Server) routes() []route {
	in := s.cfg.Instances
	return []route{
		{"POST", "/api/auth/signup", s.signUp, false, ""},
		{"POST", "/api/auth/login", s.logIn, false, ""},
		{"POST", "/api/auth/refresh", s.refresh, false, ""},
		{"POST", "/api/auth/logout", s.brakes(s.logOut), false, ""},
		{"GET", "/api/auth/me", s.signedIn(s.me), false, anyScope},
		{"GET", "/api/auth/me/export", s.following(s.export), true, ""},
		{"GET", "/api/auth/sessions", s.signedIn(s.listSessions), false, scopeAdmin},
		{"DELETE", "/api/auth/sessions/:id", s.brakes(s.revokeSession), false, scopeAdmin},
		{"GET", "/api/auth/history", s.signedIn(s.accountHistory), false, scopeAdmin},
		{"POST", "/api/auth/password", s.writes(s.changePassword), false, ""},
		{"GET", "/api/auth/tokens", s.signedIn(s.listTokens), false, ""},
		{"POST", "/api/auth/tokens", s.writes(s.createToken), false, ""},
		{"DELETE", "/api/auth/tokens/:id", s.brakes(s.revokeToken), false, ""},

		{"GET", "/api/instances", s.signedIn(s.listInstances), false, scopeRead},
		{"POST", "/api/instances", s.writes(s.createInstance), false, scopeDesktops},
		{"GET", "/api/instances/:id", s.signedIn(s.getInstance), false, scopeRead},
		{"PATCH", "/api/instances/:id", s.writes(s.renameInstance), false, scopeDesktops},
		{"DELETE", "/api/instances/:id", s.brakes(s.changing(in.Terminate)), false, scopeDesktops},
		{"POST", "/api/instances/:id/stop", s.brakes(s.changing(in.Stop)), false, scopeDesktops},
		{"POST", "/api/instances/:id/start", s.writes(s.changing(in.Start)), false, scopeDesktops},
		{"POST", "/api/instances/:id/extend", s.writes(s.extend), false, scopeDesktops},
		{"PUT", "/api/instances/:id/idle-policy", s.writes(s.setInstancePolicy), false, scopeDesktops},
		{"GET", "/api/instances/:id/history", s.signedIn(s.history), false, scopeRead},
		{"GET", "/api/instances/:id/chat", s.signedIn(s.savedChats), false, scopeChat},
		{"POST", "/api/instances/:id/tickets", s.writes(s.issueTicket), false, anyScope},
		{"GET", "/api/instances/:id/debug/:report", s.signedIn(s.diagnose), false, scopeDesktops},
		{"GET", "/api/instances/:id/boot", s.following(s.boot), true, scopeRead},
		{"GET", "/api/instances/:id/vnc", s.bridge(access.KindVNC), true, anyScope},
		{"GET", "/api/instances/:id/cloudbot", s.bridge(access.KindAgent), true, anyScope},

		{"GET", "/api/instance-types", s.signedIn(s.instanceTypes), false, scopeRead},
		{"GET", "/api/boot-times", s.signedIn(s.bootTimes), false, scopeRead},

		{"GET", "/api/prices", s.signedIn(s.prices), false, scopeRead},
		{"GET", "/api/usage", s.signedIn(s.usage), false, scopeRead},
		{"GET", "/api/usage.csv", s.signedIn(s.usageCSV), false, scopeRead},
		{"GET", "/api/budgets", s.signedIn(s.budgets), false, scopeRead},
		{"PUT", "/api/budgets", s.writes(s.setBudget), false, scopeAdmin},

		{"GET", "/api/payments/config", s.paymentsConfig, false, ""},
		{"GET", "/api/payments/subscription", s.signedIn(s.subscription), false, scopeAdmin},
		{"GET", "/api/payments/status", s.signedIn(s.paymentsStatus), false, scopeAdmin},
		{"POST", "/api/payments/sync", s.paying(s.syncPayments), false, scopeAdmin},
		{"POST", "/api/payments/create-checkout", s.paying(s.createCheckout), false, scopeAdmin},
		{"POST", "/api/payments/cancel", s.paying(s.cancelSubscription), false, scopeAdmin},
		{"POST", "/api/payments/resume", s.paying(s.resumeSubscription), false, scopeAdmin},
		{"POST", "/api/payments/portal", s.paying(s.openPortal), false, scopeAdmin},
		{"GET", "/api/payments/invoices", s.paying(s.invoices), false, scopeAdmin},
		{"POST", webhookPath, s.webhook, false, ""},

		{"GET", "/api/user/idle-policy", s.signedIn(s.accountPolicy), false, scopeRead},
		{"PUT", "/api/user/idle-policy", s.writes(s.setAccountPolicy), false, scopeAdmin},
		{"GET", "/api/user/api-keys", s.signedIn(s.listKeys), false, scopeKeys},
		{"POST", "/api/user/api-keys", s.writes(s.storeKey), false, scopeKeys},
		{"PUT", "/api/user/api-keys/:provider", s.writes(s.replaceKey), false, scopeKeys},
		{"DELETE", "/api/user/api-keys/:provider", s.writes(s.removeKey), false, scopeKeys},

		{"GET", "/api/events", s.following(s.events), true, scopeRead},

		{"GET", "/api", s.about, false, ""},
		{"GET", "/health", s.health, false, ""},
		{"GET", "/ready", s.ready, false, ""},
		{"GET", "/openapi.json", s.document, false, ""},
		{"GET", "/docs", s.swagger, false, ""},
		{"GET", "/redoc", s.redoc, false, ""},
		{"GET", "/docs/files/:name", s.docsFile, false, ""},
		{"GET", "/", s.root, false, ""},
	}
}

const webPrefix = "/app/"

// mount adds the other handlers of Config.
func (s *Server) mount() {
	for prefix, h := range s.cfg.Mounts {
		if strings.HasPrefix(prefix, "/api/") {
			s.tree(prefix, speakingProblems(h))
		} else {
			s.tree(prefix, echo.WrapHandler(h))
		}
	}
	if s.cfg.Web == nil {
		return
	}
	web := echo.WrapHandler(http.StripPrefix(strings.TrimSuffix(webPrefix, "/"), s.cfg.Web))
	s.tree(webPrefix, func(c echo.Context) error {
		c.Response().Header().Set("Content-Security-Policy", webPolicy)
		c.Response().Header().Set("Permissions-Policy", webFeatures)
		return web(c)
	})
	s.echo.GET(strings.TrimSuffix(webPrefix, "/"), toWeb)
}

// tree routes all paths below prefix, with any method, to h. They have no deadline.
func (s *Server) tree(prefix string, h echo.HandlerFunc) {
	for _, path := range []string{prefix, prefix + "*"} {
		s.echo.Any(path, h)
		s.known[path], s.long[path] = true, true
	}
	s.trees = append(s.trees, prefix)
}

// subtree reports whether a path belongs to another handler, which may need its trailing slash.
func (s *Server) subtree(path string) bool {
	for _, prefix := range s.trees {
		if strings.HasPrefix(path, prefix) {
			return true
		}
	}
	return false
}

func toWeb(c echo.Context) error { return c.Redirect(http.StatusSeeOther, webPrefix) }
