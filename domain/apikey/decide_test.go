package apikey

import (
	"errors"
	"testing"

	"github.com/cloudbot-ai/control-plane/domain/domaintest"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	one := Stored{"acc", "openai", 1, []byte("sealed 1"), "1111"}
	two := Stored{"acc", "openai", 2, []byte("sealed 2"), "2222"}
	gone := Removed{"acc", "openai"}
	store := func(s Stored, mustExist bool) Store {
		return Store{s.Account, s.Provider, s.Version, s.Key, s.Last4, mustExist}
	}
	d := domaintest.Decider[State, Event, Command]{Evolve: Evolve, Decide: Decide}
	d.Run(t, []domaintest.Case[Event, Command]{
		{Name: "first", When: store(one, false), Then: []Event{one}},
		{Name: "first, as a replacement", When: store(one, true), Err: ErrNotFound},
		{Name: "replace", Given: []Event{one}, When: store(two, true), Then: []Event{two}},
		{Name: "replace without asking", Given: []Event{one}, When: store(two, false), Then: []Event{two}},
		{Name: "sealed for the wrong version", Given: []Event{one}, When: store(one, false), Err: domaintest.ErrAny},
		{Name: "versions go on after removal", Given: []Event{one, gone}, When: store(two, false), Then: []Event{two}},
		{Name: "version 1 does not come back", Given: []Event{one, gone}, When: store(one, false), Err: domaintest.ErrAny},
		{Name: "replace a removed one", Given: []Event{one, gone}, When: store(two, true), Err: ErrNotFound},
		{Name: "remove", Given: []Event{one}, When: Remove{"acc", "openai"}, Then: []Event{gone}},
		{Name: "remove twice", Given: []Event{one, gone}, When: Remove{"acc", "openai"}, Err: ErrNotFound},
		{Name: "remove none", When: Remove{"acc", "openai"}, Err: ErrNotFound},
		{Name: "unknown command", Err: domaintest.ErrAny},
	})
	if s := d.Fold(one, gone); s.Key != nil || s.Last4 != "" || s.Version != 1 {
		t.Errorf("after removal: got %+v, want s.Key == nil, s.Last4 empty and s.Version == 1", s)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range Providers {
		if got, err := Find(p.ID); got != p || err != nil {
			t.Errorf("%s: got %v, %v, want got == %v and no error", p.ID, got, err, p)
		}
		if p.Name == "" || seen[p.ID] || seen[p.Env] {
			t.Errorf("got %+v, want a name, and an id and a variable of its own", p)
		}
		seen[p.ID], seen[p.Env] = true, true
	}
	if _, err := Find("acme"); !errors.Is(err, ErrUnknownProvider) {
		t.Errorf("got %v, want error %v", err, ErrUnknownProvider)
	}
}

func TestNamed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"anthropic": "anthropic", "Anthropic": "anthropic", "ANTHROPIC": "anthropic", "ANTHROPIC_API_KEY": "anthropic", "anthropic_api_key": "anthropic",
		"GEMINI_API_KEY": "google", "GOOGLE_API_KEY": "google", "xAI": "xai",
		"": "", "acme": "", "_API_KEY": "", " anthropic": "", "ANTHROPIC_KEY": "", "gemini": "",
	} {
		p, err := Named(name)
		if p.ID != want || errors.Is(err, ErrUnknownProvider) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", name, p.ID, err, want)
		}
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	domaintest.Golden[Event](t, Codec,
		Stored{"01JACCOUNT", "openai", 3, []byte("sealed"), "ab12"}, Removed{"01JACCOUNT", "openai"})
}
