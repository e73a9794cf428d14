// Package apikey decides about an account's key for one LLM provider. The key is ciphertext, bound to account, provider
// and version, so that two keys cannot be swapped.
package apikey

import (
	"fmt"
	"strings"

	"github.com/cloudbot-ai/control-plane/domain"
)

// Provider is an LLM provider whose keys the agent understands.
type Provider struct {
	ID     string // as in URLs
	Name   string // for people
	Env    string // environment variable of the agent
	Plugin bool   // the agent needs a plug-in in its image
}

// Providers lists the providers in the order in which they are shown.
var Providers = [...]Provider{
	{"anthropic", "Anthropic", "ANTHROPIC_API_KEY", false},
	{"openai", "OpenAI", "OPENAI_API_KEY", false},
	{"google", "Google Gemini", "GEMINI_API_KEY", false},
	{"openrouter", "OpenRouter", "OPENROUTER_API_KEY", false},
	{"together", "Together AI", "TOGETHER_API_KEY", false},
	{"xai", "xAI", "XAI_API_KEY", false},
	{"groq", "Groq", "GROQ_API_KEY", true},
	{"mistral", "Mistral", "MISTRAL_API_KEY", true},
	{"deepseek", "DeepSeek", "DEEPSEEK_API_KEY", true},
}

// Refusals.
var (
	ErrUnknownProvider = &domain.Error{Kind: domain.Invalid, Code: "unknown_provider", Msg: "There is no such provider; GET /api/user/api-keys lists them."}
	ErrNotFound        = &domain.Error{Kind: domain.NotFound, Code: "api_key_not_found", Msg: "There is no key for this provider; POST /api/user/api-keys stores one."}
)

// Find returns the provider with this id.
func Find(id string) (Provider, error) {
	for _, p := range Providers {
		if p.ID == id {
			return p, nil
		}
	}
	return Provider{}, ErrUnknownProvider
}

// Named returns the provider that a request names by its id or by the environment variable of its key, in any case:
// "anthropic", "Anthropic", "ANTHROPIC_API_KEY".
func Named(name string) (Provider, error) {
	for _, p := range Providers {
		if strings.EqualFold(name, p.ID) || strings.EqualFold(name, p.ID+"_api_key") || strings.EqualFold(name, p.Env) {
			return p, nil
		}
	}
	return Provider{}, ErrUnknownProvider
}

// Event is a fact about one key.
type Event interface{ event() }

type (
	// Stored sets or replaces the key.
	Stored struct {
		Account  string `json:"account"`
		Provider string `json:"provider"`
		Version  int    `json:"version"` // 1, 2, 3 …; part of what the ciphertext is bound to
		Key      []byte `json:"key"`     // sealed
		Last4    string `json:"last4"`
	}
	// Removed removes the key.
	Removed struct {
		Account  string `json:"account"`
		Provider string `json:"provider"`
	}
)

func (Stored) event()  {}
func (Removed) event() {}

// State is what decisions read of a key.
type State struct {
	Account  string
	Provider string
	Version  int    // of the latest key, also after its removal
	Key      []byte // sealed; nil: no key
	Last4    string
}

// Evolve folds one event into the state.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Stored:
		return State(e)
	case Removed:
		s.Key, s.Last4 = nil, ""
	}
	return s
}

// Command is Store or Remove.
type Command interface{ command() }

type (
	// Store sets or replaces the key. Version must be the state's plus one: Key was sealed for it.
	Store struct {
		Account, Provider string
		Version           int
		Key               []byte
		Last4             string
		MustExist         bool // a replacement: refuse if there is no key yet
	}
	// Remove takes the key away.
	Remove struct{ Account, Provider string }
)

func (Store) command()  {}
func (Remove) command() {}

// Decide returns the events of c in state s. None without an error: nothing changes.
func Decide(s State, c Command) ([]Event, error) {
	switch c := c.(type) {
	case Store:
		if c.MustExist && s.Key == nil {
			return nil, ErrNotFound
		}
		if c.Version != s.Version+1 {
			return nil, fmt.Errorf("apikey: sealed for version %d, next is %d", c.Version, s.Version+1)
		}
		return []Event{Stored{c.Account, c.Provider, c.Version, c.Key, c.Last4}}, nil
	case Remove:
		if s.Key == nil {
			return nil, ErrNotFound
		}
		return []Event{Removed(c)}, nil
	}
	return nil, fmt.Errorf("apikey: unknown command %T", c)
}
