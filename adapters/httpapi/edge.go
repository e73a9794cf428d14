package httpapi

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

// nowhere is a path without a route.
const nowhere = "/-"

// plainPath routes only unambiguous paths: no escapes, no empty, "." or ".." segments, no backslash. Any
// other path is answered as unknown. A trailing slash is removed.
func (s *Server) plainPath(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		c.Set(keyPath, u.Path)
		if !plain(u.EscapedPath()) {
			u.Path = nowhere
		} else if len(u.Path) > 1 && strings.HasSuffix(u.Path, "/") && !s.subtree(u.Path) {
			u.Path = strings.TrimSuffix(u.Path, "/")
		}
		u.RawPath = ""
		return next(c)
	}
}

func plain(path string) bool {
	if !strings.HasPrefix(path, "/") || len(path) > 1024 {
		return false
	}
	for i := range len(path) {
		if b := path[i]; b <= ' ' || b >= 0x7f || b == '%' || b == '\\' {
			return false
		}
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path[1:], "/"), "/") {
		if (segment == "" && path != "/") || segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// apiPolicy forbids a browser to run or load anything from an answer of the API.
const apiPolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// webPolicy allows the dashboard to load its own files only.
const webPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// denied are browser features that no page here uses. A name that Chromium does not know would log a warning
// in every console.
var denied = []string{
	"accelerometer", "autoplay", "browsing-topics", "camera", "compute-pressure", "display-capture", "encrypted-media", "gamepad", "geolocation",
	"gyroscope", "hid", "identity-credentials-get", "idle-detection", "keyboard-map", "local-fonts", "magnetometer", "microphone", "midi", "otp-credentials",
	"payment", "picture-in-picture", "publickey-credentials-create", "publickey-credentials-get", "screen-wake-lock", "serial",
	"storage-access", "sync-xhr", "usb", "window-management", "xr-spatial-tracking",
}

var (
	apiFeatures = "clipboard-read=(), clipboard-write=(), fullscreen=(), " + strings.Join(denied, "=(), ") + "=()"
	// webFeatures allows the clipboard and full screen, which desktops use.
	webFeatures = "clipboard-read=(self), clipboard-write=(self), fullscreen=(self), " + strings.Join(denied, "=(), ") + "=()"
)

// fixed is a header of an answer. All answers share its value, whose capacity is its length, so that an Add copies it.
type fixed struct {
	name  string // in its canonical form
	value []string
}

var (
	everywhere = []fixed{
		{"X-Content-Type-Options", []string{"nosniff"}},
		{"Referrer-Policy", []string{"no-referrer"}},
		{"X-Frame-Options", []string{"DENY"}},
		{"Cross-Origin-Opener-Policy", []string{"same-origin"}},
		{"Cross-Origin-Resource-Policy", []string{"same-origin"}},
		{"Content-Security-Policy", []string{apiPolicy}},
		{"Permissions-Policy", []string{apiFeatures}},
	}
	noStore = fixed{"Cache-Control", []string{"no-store"}}
	hsts    = fixed{"Strict-Transport-Security", []string{"max-age=31536000; includeSubDomains"}}
)

func (s *Server) headers(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		h := c.Response().Header()
		for _, f := range everywhere {
			h[f.name] = f.value
		}
		if strings.HasPrefix(c.Request().URL.Path, "/api/") {
			h[noStore.name] = noStore.value
		}
		if s.cfg.HSTS {
			h[hsts.name] = hsts.value
		}
		return next(c)
	}
}

const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, Cloudbot-Wait-For, Cloudbot-Origin, Cloudbot-Ticket, Last-Event-ID, Prefer, X-Request-Id, Traceparent"
	corsExposed = "Cloudbot-Position, Cloudbot-Behind, Idempotency-Replayed, Location, Preference-Applied, Retry-After, X-Request-Id"
)

// cors lets the configured origins read answers. The API uses no cookies, so credentials are not allowed.
func (s *Server) cors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r, h := c.Request(), c.Response().Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if !s.origins[origin] || r.URL.Path == webhookPath { // no page calls that
			return next(c)
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", corsExposed)
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			return next(c)
		}
		h.Set("Access-Control-Allow-Methods", corsMethods)
		h.Set("Access-Control-Allow-Headers", corsHeaders)
		h.Set("Access-Control-Max-Age", "600")
		return c.NoContent(http.StatusNoContent)
	}
}

// sameSite reports whether the requesting page may open a WebSocket. Browsers always send Origin with one; a
// request without Origin comes from a program, which must send a bearer token.
func (s *Server) sameSite(r *http.Request) (ok, program bool) {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true, true
	}
	if len(values) > 1 {
		return false, false
	}
	return s.allowedOrigin(values[0], r.Host), false
}

// allowedOrigin reports whether pages of an origin may open a WebSocket. If the public URL is configured,
// Host is ignored: a proxy may have rewritten it.
func (s *Server) allowedOrigin(origin, host string) bool {
	if s.origins[origin] || s.cfg.PublicURL != "" {
		return s.origins[origin]
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && strings.EqualFold(u.Host, host)
}

// originOf returns a URL's origin as browsers write it: in lower case, without the scheme's default port.
func originOf(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return ""
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if p := u.Port(); scheme == "https" && p == "443" || scheme == "http" && p == "80" {
		host = strings.TrimSuffix(host, ":"+p)
	}
	return scheme + "://" + host
}
