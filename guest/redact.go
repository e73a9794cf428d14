package guest

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"sort"
	"strings"
	"sync"
)

const redacted = "[redacted]"

// keyShapes find what looks like a credential even where nobody told of it.
var keyShapes = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`\bsk-[a-z0-9_-]{12,}`, `\bAIza[0-9a-z_-]{20,}`, `\bgsk_[a-z0-9]{12,}`, `\bxai-[a-z0-9]{12,}`, `\btgp_[a-z0-9_-]{12,}`,
	`\bhf_[a-z0-9]{12,}`, `\bgh[pousr]_[a-z0-9]{20,}`, `\bA(?:KI|SI)A[0-9A-Z]{16}\b`,
	`\beyJ[a-z0-9_-]{8,}\.[a-z0-9_-]{8,}\.[a-z0-9_-]*`,
	`-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?`,
}, "|"))

// namedValues find a value by the name it goes under; the name stays.
var namedValues = regexp.MustCompile(`(?i)((?:api[_-]?key|token|passw(?:or)?d|secret|authorization)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?)([^\s"',;&]{4,})`)

// Redactor removes secrets from text on its way out of the machine.
type Redactor struct {
	mu    sync.RWMutex
	known map[string][]string // set name → values
	all   *strings.Replacer
}

// Know replaces the set of values kept under name. Values of less than 6 characters are ignored:
// removing those would only damage the text.
func (r *Redactor) Know(name string, values ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string][]string{}
	}
	r.known[name] = values
	var all []string
	for _, set := range r.known {
		for _, v := range set {
			if len(v) < 6 {
				continue
			}
			all = append(all, v, url.QueryEscape(v), base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)))
		}
	}
	sort.Slice(all, func(i, j int) bool { return len(all[i]) > len(all[j]) }) // the longest first
	pairs := make([]string, 0, 2*len(all))
	for _, v := range all {
		pairs = append(pairs, v, redacted)
	}
	r.all = strings.NewReplacer(pairs...)
}

// Clean returns text without the known values and without what looks like a credential.
func (r *Redactor) Clean(text string) string {
	r.mu.RLock()
	all := r.all
	r.mu.RUnlock()
	if all != nil {
		text = all.Replace(text)
	}
	text = keyShapes.ReplaceAllString(text, redacted)
	return namedValues.ReplaceAllString(text, "${1}"+redacted)
}
