package httpapi

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain/instance"
	"github.com/cloudbot-ai/control-plane/guest/wire"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

// savedChats answers with the instance's newest chats, as its machine last sent them.
func (s *Server) savedChats(c echo.Context, who access.Claims) error {
	id := c.Param("id")
	if !isULID(id) {
		return instance.ErrNotFound
	}
	if s.cfg.Chats == nil {
		return errNotBuiltIn
	}
	text, at, err := s.cfg.Chats.Read(c.Request().Context(), who.Account, id)
	if err != nil {
		return err
	}
	chats, err := wire.ParseChats(text)
	if err != nil {
		return fmt.Errorf("saved chats of %s: %w", id, err)
	}
	return c.JSON(http.StatusOK, struct {
		SavedAt time.Time `json:"saved_at"`
		wire.SavedChats
	}{at, chats})
}
