package guest

import (
	"encoding/base64"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
)

const redacted = "[redacted]"

// keyShapes match texts that look like a credential, even if they are not known as one.
var keyShapes = regexp.MustCompile(`(?i)` + strings.Join([]string{
	`\bsk-[a-z0-9_-]{12,}`, `\bAIza[0-9a-z_-]{20,}`, `\bgsk_[a-z0-9]{12,}`, `\bxai-[a-z0-9]{12,}`, `\btgp_[a-z0-9_-]{12,}`,
	`\bhf_[a-z0-9]{12,}`, `gh[pousr]_[a-z0-9]{20,}`, `github_pat_[a-z0-9_]{20,}`, `glpat-[a-z0-9_-]{16,}`, `npm_[a-z0-9]{30,}`,
	`\b[rs]k_(?:live|test)_[a-z0-9]{12,}`, `\bx(?:ox[a-z]|app)-[a-z0-9-]{10,}`, `(?-i:A(?:KI|SI)A[0-9A-Z]{16})`,
	`\beyJ[a-z0-9_-]{8,}\.[a-z0-9_-]{8,}\.[a-z0-9_-]*`,
}, "|"))

// A private key as PEM: its first line, its content, and its last line.
const (
	keyBegin = `-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`
	keyBody  = `[\w+/=:,.\\\s\[\]-]*`
	keyEnd   = `-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----`
)

// wholeKey matches a private key; openKey matches the content of one whose last line is missing.
var (
	wholeKey = regexp.MustCompile(`(?i)` + keyBegin + keyBody + `?` + keyEnd)
	openKey  = regexp.MustCompile(`(?i)` + keyBegin + keyBody)
)

// userInfo matches the password in a URL, or a user name that is long enough to be a token.
var userInfo = regexp.MustCompile(`(?i)([a-z][a-z0-9+.-]*://[^\s/:@"'<>]*:)[^\s/"'<>]+@|(https?://)[^\s/:@"'<>]{16,}@`)

// secretName matches the part of a name that marks a secret, to its end.
const secretName = `(?:secret|token|passw(?:or)?d|passphrase|key|authorization|credential|signature)[\w.-]*`

// flagged matches the value after an option of such a name.
var flagged = regexp.MustCompile(`(?i)(--[\w.-]*` + secretName + `[ \t]+)(?:(")[^"\n]+|(')[^'\n]+|[^\s"':=-]\S*)`)

// dangling matches a name at the end of a text, whose value follows later.
var dangling = regexp.MustCompile(`(?i)(?:` + secretName + `\\*["']?\s*[:=]?\s*|\b(?:bearer|basic)\s+)+$`)

// bearer matches a token after its authentication scheme.
var bearer = regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+([a-z0-9._~+/=-]{8,})`)

// named matches a value by its name: the end of the name, and the value in double quotes, single quotes, escaped quotes
// or without any. A value without quotes may itself be a name with a value, and so on.
var named = regexp.MustCompile(`(?i)(` + secretName + `)(?:\\*["'])?[ \t]*[:=]+[ \t]*(?:"((?:[^"\\\n]|\\.)+)|'([^'\n]+)|\\+["']([^"'\\\n]+)|` +
	`(?:(?:bearer|basic|token)[ \t]+)?(` + bare + `(?:[ \t]*[:=]+[ \t]*` + bare + `)*[:=]*))`)

const bare = `[^\s"',;&:=]+`

// surely matches names whose values are always secrets; values of other names must look like a secret.
var surely = regexp.MustCompile(`(?i)secret|token$|passw(?:or)?d|passphrase|authorization|(?:api|access|private)[_-]?key`)

// plain matches values that are no secrets, as after the name of a package.
var plain = []string{"true", "false", "null", "none", "undefined", "amd64", "arm64"}

func secret(name, value string) bool {
	switch {
	case strings.HasPrefix(value, "-----BEGIN"): // wholeKey and openKey match it
		return false
	case len(value) < 4 || slices.Contains(plain, strings.TrimRight(value, ".)}]")):
		return false
	case surely.MatchString(name):
		return true
	}
	return telling(value)
}

// telling reports whether a value looks like a secret: neither a word of a language nor a count.
func telling(value string) bool {
	const digits = "0123456789"
	switch {
	case strings.ContainsAny(value, " \t\n") && !strings.ContainsAny(value, ":="):
		return false
	case len(value) >= 16:
		return true
	}
	return len(value) >= 6 && strings.ContainsAny(value, digits) && strings.Trim(value, digits+".%") != ""
}

// replaceNamed replaces the values after a secret's name.
func replaceNamed(text string) string {
	var b strings.Builder
	at := 0
	for _, m := range named.FindAllStringSubmatchIndex(text, -1) {
		name := text[at:m[3]]
		name = name[strings.LastIndexAny(name, " \t\n\"'")+1:]
		for g := 4; g < len(m); g += 2 {
			if m[g] < 0 {
				continue
			}
			value := text[m[g]:m[g+1]]
			b.WriteString(text[at:m[g]])
			if secret(name, value) {
				b.WriteString(redacted)
			} else {
				b.WriteString(replaceNamed(value)) // short, or made of several words: "key: password=…"
			}
			at = m[g+1]
		}
	}
	b.WriteString(text[at:])
	return b.String()
}

func replaceBearer(match string) string {
	token := bearer.FindStringSubmatch(match)[1]
	if !telling(token) {
		return match
	}
	return strings.TrimSuffix(match, token) + redacted
}

var (
	keyBegins = regexp.MustCompile(`(?i)` + keyBegin)
	keyEnds   = regexp.MustCompile(`(?i)` + keyEnd)
	keyRun    = regexp.MustCompile(`[A-Za-z0-9+/=]{16,}`)
)

// keyLines is more than the lines of a private key in PEM.
const keyLines = 300

// privateKey matches the lines of a private key that arrive one at a time.
type privateKey struct {
	left int // lines that may still belong to the key
}

// clean removes the part of a key from the next line. Lines of other programs may come in between.
func (k *privateKey) clean(line string) string {
	if k.left > 0 {
		end := keyEnds.FindStringIndex(line)
		if end == nil {
			k.left--
			if strings.ContainsAny(strings.TrimSpace(line), " \t") {
				return keyRun.ReplaceAllString(line, redacted)
			}
			return redacted
		}
		k.left = 0
		line = redacted + line[end[1]:]
	}
	if all := keyBegins.FindAllStringIndex(line, -1); all != nil && !keyEnds.MatchString(line[all[len(all)-1][1]:]) {
		k.left = keyLines
	}
	return line
}

// Redactor removes secrets from text that leaves the machine.
type Redactor struct {
	mu    sync.RWMutex
	known map[string][]string // set name → values
	all   *strings.Replacer
}

// Know replaces the set of known values under a name. It ignores values of less than 6 characters: removing them would
// only damage the text.
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
	sort.Slice(all, func(i, j int) bool { return len(all[i]) > len(all[j]) }) // longest first
	pairs := make([]string, 0, 2*len(all))
	for _, v := range all {
		pairs = append(pairs, v, redacted)
	}
	r.all = strings.NewReplacer(pairs...)
}

// Clean returns text without the known values and without texts that look like credentials.
func (r *Redactor) Clean(text string) string {
	r.mu.RLock()
	all := r.all
	r.mu.RUnlock()
	if all != nil {
		text = all.Replace(text)
	}
	text = wholeKey.ReplaceAllString(text, redacted)
	text = keyShapes.ReplaceAllString(text, redacted)
	text = userInfo.ReplaceAllString(text, "${1}${2}"+redacted+"@")
	text = flagged.ReplaceAllString(text, "${1}${2}${3}"+redacted)
	text = replaceNamed(text)
	text = bearer.ReplaceAllStringFunc(text, replaceBearer)
	return openKey.ReplaceAllString(text, redacted)
}
