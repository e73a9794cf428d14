package httpapi

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/domain/budget"
	"github.com/cloudbot-ai/control-plane/internal/access"
)

var csvHeader = []string{
	"day", "desktop_id", "desktop", "instance_type", "run_seconds", "compute_usd", "disk_usd", "address_usd", "model_estimate_usd", "total_usd",
}

// usageCSV is usage as a file with a row for each day and instance.
func (s *Server) usageCSV(c echo.Context, who access.Claims) error {
	view, err := s.usageOf(c, who)
	if err != nil {
		return err
	}
	var rows [][]string
	for _, d := range view.Desktops {
		for _, day := range d.Days {
			rows = append(rows, []string{
				day.Day, d.ID, CSVText(d.Name), CSVText(day.machineType), strconv.FormatInt(day.RunSeconds, 10),
				budget.Exact(day.Compute), budget.Exact(day.Disk), budget.Exact(day.Address), budget.Exact(day.Model), budget.Exact(day.total()),
			})
		}
	}
	slices.SortStableFunc(rows, func(a, b []string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	w.UseCRLF = true
	if err := w.WriteAll(append([][]string{csvHeader}, rows...)); err != nil {
		return err
	}
	c.Response().Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="cloudbot-usage-%s.csv"`, view.Month))
	return c.Blob(http.StatusOK, "text/csv; charset=utf-8", text.Bytes())
}

// CSVText marks a text that a spreadsheet would take for a formula as a text.
func CSVText(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
