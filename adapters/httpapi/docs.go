package httpapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"
)

//go:embed api/openapi.json
var openAPI []byte

// assets holds the released builds of Swagger UI (swagger-ui-dist 5.35.0) and ReDoc (redoc 2.5.4),
// compressed, with their licences.
//
//go:embed assets
var assets embed.FS

// docsPolicy allows the style elements that both viewers create. Scripts come only from this server's files.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const head = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>CloudBot API</title>
<link rel="icon" href="/docs/files/favicon.png">
`

const swaggerPage = head + `<link rel="stylesheet" href="/docs/files/swagger-ui.css">
<div id="swagger"></div>
<script src="/docs/files/swagger-ui-bundle.js"></script>
<script src="/docs/files/swagger.js"></script>
`

const redocPage = head + `<style>body { margin: 0 }</style>
<div id="redoc"></div>
<script src="/docs/files/redoc.standalone.js"></script>
<script src="/docs/files/redoc.js"></script>
`

const barePage = head + `<h1>CloudBot control plane</h1>
<p>This server was built without a dashboard. The API is available: see <a href="/docs">its documentation</a>.
`

func (s *Server) document(c echo.Context) error {
	return serveBytes(c, "application/json", openAPI)
}

func (s *Server) swagger(c echo.Context) error { return page(c, swaggerPage) }

func (s *Server) redoc(c echo.Context) error { return page(c, redocPage) }

func (s *Server) root(c echo.Context) error {
	if s.cfg.Web != nil {
		return toWeb(c)
	}
	return page(c, barePage)
}

func page(c echo.Context, html string) error {
	c.Response().Header().Set("Content-Security-Policy", docsPolicy)
	return serveBytes(c, "text/html; charset=utf-8", []byte(html))
}

// docsFiles maps the names in URLs to files, so that a client's path never reaches the file system.
var docsFiles = map[string]string{
	"swagger-ui.css": "swagger-ui.css.gz", "swagger-ui-bundle.js": "swagger-ui-bundle.js.gz",
	"redoc.standalone.js": "redoc.standalone.js.gz", "swagger.js": "swagger.js", "redoc.js": "redoc.js",
	"favicon.png": "favicon-32x32.png", "swagger-ui.LICENSE.txt": "swagger-ui.LICENSE.txt", "redoc.LICENSE.txt": "redoc.LICENSE.txt",
}

var docsTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".png": "image/png", ".txt": "text/plain; charset=utf-8",
}

func (s *Server) docsFile(c echo.Context) error {
	name := c.Param("name")
	file, ok := docsFiles[name]
	if !ok {
		return errNoRoute
	}
	data, err := assets.ReadFile("assets/" + file)
	if err != nil {
		return err
	}
	if strings.HasSuffix(file, ".gz") {
		c.Response().Header().Add("Vary", "Accept-Encoding")
		if strings.Contains(c.Request().Header.Get("Accept-Encoding"), "gzip") {
			c.Response().Header().Set("Content-Encoding", "gzip")
		} else if data, err = s.unpacked.file(file, data); err != nil {
			return err
		}
	}
	return serveBytes(c, docsTypes[path.Ext(name)], data)
}

// unpacked caches decompressed files for clients that do not accept gzip. The zero value is ready to use.
type unpacked struct {
	mu sync.Mutex
	by map[string][]byte
}

func (u *unpacked) file(name string, packed []byte) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if data, ok := u.by[name]; ok {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if u.by == nil {
		u.by = map[string][]byte{}
	}
	u.by[name] = data
	return data, nil
}

// serveBytes answers with data, or with 304 if the client has it already.
func serveBytes(c echo.Context, kind string, data []byte) error {
	sum := sha256.Sum256(data)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	h := c.Response().Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache") // stored by clients, and revalidated each time
	if c.Request().Header.Get("If-None-Match") == tag {
		h.Del("Content-Encoding")
		return c.NoContent(http.StatusNotModified)
	}
	if c.Request().Method == http.MethodHead {
		h.Set("Content-Type", kind)
		return c.NoContent(http.StatusOK)
	}
	return c.Blob(http.StatusOK, kind, data)
}
