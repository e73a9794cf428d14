package httpapi

import (
	"maps"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/commands"
	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

type limitView struct {
	Scope string `json:"scope"`
	Day   *int64 `json:"day_micros"`
	Month *int64 `json:"month_micros"`
}

type spentView struct {
	Scope        string `json:"scope"`
	Day          int64  `json:"day_micros"`
	Month        int64  `json:"month_micros"`
	DayPercent   *int64 `json:"day_percent"`
	MonthPercent *int64 `json:"month_percent"`
	State        string `json:"state"`
}

type budgetsView struct {
	Limits              []limitView `json:"limits"`
	Spent               []spentView `json:"spent"`
	InstallationReached bool        `json:"installation_reached"`
}

func viewBudgets(now commands.Spending) budgetsView {
	v := budgetsView{Limits: []limitView{}, InstallationReached: now.InstallationReached}
	scopes := []string{budget.Account}
	for _, scope := range slices.Sorted(maps.Keys(now.State)) {
		if scope != budget.Account {
			scopes = append(scopes, scope)
		}
	}
	for _, scope := range scopes {
		limits, spent := now.State[scope], now.Spent[scope]
		if limits.Day.Micros > 0 || limits.Month.Micros > 0 {
			v.Limits = append(v.Limits, limitView{scope, orUnlimited(limits.Day), orUnlimited(limits.Month)})
		}
		s := spentView{
			Scope: scope, Day: spent.Day, Month: spent.Month,
			DayPercent: percentOf(limits.Day, spent.Day), MonthPercent: percentOf(limits.Month, spent.Month),
		}
		s.State = budgetState(max(budget.Percent(spent.Day, limits.Day.Micros), budget.Percent(spent.Month, limits.Month.Micros)),
			limits.Day.Holds(budget.Day, now.At) || limits.Month.Holds(budget.Month, now.At))
		v.Spent = append(v.Spent, s)
	}
	return v
}

// budgetState returns the highest threshold that is reached. The last one counts once it is recorded: starts are refused
// from then on.
func budgetState(percent int64, reached bool) string {
	switch {
	case reached:
		return "reached"
	case percent >= 80:
		return "warned_80"
	case percent >= 50:
		return "warned_50"
	}
	return "ok"
}

func orUnlimited(l budget.Limit) *int64 {
	if l.Micros == 0 {
		return nil
	}
	return &l.Micros
}

func percentOf(l budget.Limit, spent int64) *int64 {
	if l.Micros == 0 {
		return nil
	}
	percent := budget.Percent(spent, l.Micros)
	return &percent
}

func (s *Server) budgets(c echo.Context, who access.Claims) error {
	if err := s.await(c); err != nil {
		return err
	}
	return s.showBudgets(c, who)
}

func (s *Server) showBudgets(c echo.Context, who access.Claims) error {
	now, err := s.cfg.Budgets.Of(c.Request().Context(), who.Account)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, viewBudgets(now))
}

// setBudget sets both limits of a scope.
func (s *Server) setBudget(c echo.Context, who access.Claims) error {
	var scope string
	var day, month int64
	var noDay, noMonth bool
	err := readBody(c, field{name: "scope", into: &scope}, field{name: "day_micros", number: &day, null: &noDay}, field{name: "month_micros", number: &month, null: &noMonth})
	if err != nil {
		return err
	}
	refuse := func(field, detail string) error {
		return &refusal{status: http.StatusUnprocessableEntity, code: "invalid_budget", field: field, detail: detail}
	}
	switch {
	case scope != budget.Account && !isULID(scope):
		return refuse("scope", "The scope must be account or the ID of a desktop.")
	case !noDay && day == 0:
		return refuse("day_micros", "A budget is at least one cent. To remove it, send null.")
	case !noMonth && month == 0:
		return refuse("month_micros", "A budget is at least one cent. To remove it, send null.")
	}
	o, err := s.origin(c, who)
	if err != nil {
		return err
	}
	out, err := s.cfg.Budgets.Set(c.Request().Context(), o, scope, day, month)
	if err != nil {
		return err
	}
	s.accepted(c, out.Position, out.Replayed)
	return s.showBudgets(c, who)
}
