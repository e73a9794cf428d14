package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain"
	"github.com/cloudbot-ai/control-plane/domain/apikey"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

type providerView struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Plugin bool   `json:"plugin"` // whether the agent needs a plug-in for it
}

func (s *Server) listKeys(c echo.Context, who access.Claims) error {
	if err := s.await(c); err != nil {
		return err
	}
	list, err := s.cfg.Queries.APIKeys(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	stored, keys := make([]string, len(list)), make([]commands.StoredKey, len(list))
	for i, k := range list {
		stored[i], keys[i] = k.Provider, commands.StoredKey{Provider: k.Provider, Last4: k.Last4, UpdatedAt: k.UpdatedAt.UTC()}
	}
	available := make([]providerView, len(apikey.Providers))
	for i, p := range apikey.Providers {
		available[i] = providerView{p.ID, p.Name, p.Plugin}
	}
	return c.JSON(http.StatusOK, struct {
		Providers []string             `json:"providers"`
		Keys      []commands.StoredKey `json:"keys"`
		Available []providerView       `json:"available"`
	}{stored, keys, available})
}

func (s *Server) storeKey(c echo.Context, who access.Claims) error {
	var provider, key string
	if err := readBody(c, field{name: "provider", into: &provider}, field{name: "api_key", into: &key}); err != nil {
		return err
	}
	return s.store(c, who, http.StatusCreated, provider, key, false)
}

func (s *Server) replaceKey(c echo.Context, who access.Claims) error {
	provider, err := pathProvider(c)
	if err != nil {
		return err
	}
	var key string
	if err := readBody(c, field{name: "api_key", into: &key}); err != nil {
		return err
	}
	return s.store(c, who, http.StatusOK, provider, key, true)
}

func (s *Server) store(c echo.Context, who access.Claims, status int, provider, key string, replace bool) error {
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	out, err := s.cfg.Keys.Store(c.Request().Context(), o, provider, key, replace)
	if err != nil {
		return err
	}
	s.accepted(c, out.Position, out.Replayed)
	return c.JSON(status, out.Answer)
}

func (s *Server) removeKey(c echo.Context, who access.Claims) error {
	provider, err := pathProvider(c)
	if err != nil {
		return err
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	out, err := s.cfg.Keys.Remove(c.Request().Context(), o, provider)
	if err != nil {
		return err
	}
	s.accepted(c, out.Position, out.Replayed)
	return c.NoContent(http.StatusNoContent)
}

// pathProvider reads the provider in a path; an unknown one is not found.
func pathProvider(c echo.Context) (string, error) {
	p, err := apikey.Named(c.Param("provider"))
	if err != nil {
		return "", &domain.Error{Kind: domain.NotFound, Code: apikey.ErrUnknownProvider.Code, Msg: apikey.ErrUnknownProvider.Msg}
	}
	return p.ID, nil
}
