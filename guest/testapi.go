package guest

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// probe is a free request that shows whether a provider accepts a key.
type probe struct {
	provider string
	env      string
	url      string
	header   string // the header with the key; "": Authorization, as a bearer token
	extra    [2]string
}

var providers = []probe{
	{provider: "anthropic", env: "ANTHROPIC_API_KEY", url: "https://api.anthropic.com/v1/models", header: "X-Api-Key", extra: [2]string{"Anthropic-Version", "2023-06-01"}},
	{provider: "openai", env: "OPENAI_API_KEY", url: "https://api.openai.com/v1/models"},
	{provider: "google", env: "GEMINI_API_KEY", url: "https://generativelanguage.googleapis.com/v1beta/models", header: "X-Goog-Api-Key"},
	{provider: "openrouter", env: "OPENROUTER_API_KEY", url: "https://openrouter.ai/api/v1/key"}, // its list of models is public
	{provider: "together", env: "TOGETHER_API_KEY", url: "https://api.together.xyz/v1/models"},
	{provider: "xai", env: "XAI_API_KEY", url: "https://api.x.ai/v1/models"},
	{provider: "groq", env: "GROQ_API_KEY", url: "https://api.groq.com/openai/v1/models"},
	{provider: "mistral", env: "MISTRAL_API_KEY", url: "https://api.mistral.ai/v1/models"},
	{provider: "deepseek", env: "DEEPSEEK_API_KEY", url: "https://api.deepseek.com/models"},
}

type probed struct {
	Provider string `json:"provider"`
	Result   string `json:"result"`           // no key, accepted, no plug-in, unauthorised, unreachable, unexpected
	Status   int    `json:"status,omitempty"` // of the provider's answer
}

// testAPI asks each provider with a key whether it accepts that key.
func (g *Guest) testAPI(ctx context.Context) map[string]any {
	keys, _ := g.keys.Env()
	results := make([]probed, len(g.probes))
	var all sync.WaitGroup
	for i, p := range g.probes {
		all.Go(func() { results[i] = g.try(ctx, p, keys[p.env]) })
	}
	all.Wait()
	return map[string]any{"providers": results}
}

func (g *Guest) try(ctx context.Context, p probe, key string) probed {
	r := probed{Provider: p.provider}
	if key == "" {
		r.Result = "no key"
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		r.Result = "unreachable"
		return r
	}
	if p.header != "" {
		req.Header.Set(p.header, key)
	} else {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if p.extra[0] != "" {
		req.Header.Set(p.extra[0], p.extra[1])
	}
	res, err := g.client.Do(req)
	if err != nil { // the error may contain the requested address; the result is enough
		r.Result = "unreachable"
		return r
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	r.Status = res.StatusCode
	switch {
	case res.StatusCode == http.StatusOK && g.lacks(p.provider):
		r.Result = "no plug-in" // the key is valid, but the agent cannot use it
	case res.StatusCode == http.StatusOK:
		r.Result = "accepted"
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden,
		p.provider == "google" && res.StatusCode == http.StatusBadRequest:
		r.Result = "unauthorised"
	default:
		r.Result = "unexpected"
	}
	return r
}
