package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/cloudbot-ai/control-plane/internal/access"
)

const currency = "USD"

// excluded says what prices and usage leave out.
var excluded = []string{
	"Data that desktops send to the internet is not counted, because the server can't see all of it.",
	"Taxes, discounts and free allowances of the cloud are not counted.",
}

type priceView struct {
	Type   string `json:"instance_type"`
	Hourly *int64 `json:"hourly_micros"` // null: not priced
}

// prices returns what a new instance costs.
func (s *Server) prices(c echo.Context, _ access.Claims) error {
	now, region, list := s.cfg.Now(), s.cfg.Instances.Cloud.Region(), s.cfg.Prices
	types := []priceView{}
	for _, t := range s.cfg.Instances.Cloud.Types() {
		v := priceView{Type: t.ID}
		if hourly, ok := list.Hourly(region, t.ID, now); ok {
			v.Hourly = &hourly
		}
		types = append(types, v)
	}
	disk, _ := list.DiskGiBMonth(region, now)
	address, _ := list.AddressHourly(region, now)
	return c.JSON(http.StatusOK, struct {
		Currency string      `json:"currency"`
		Source   string      `json:"source"`
		Date     string      `json:"date"`
		Region   string      `json:"region"`
		Types    []priceView `json:"types"`
		Disk     int64       `json:"disk_gib_month_micros"`
		DiskGiB  int         `json:"disk_gib"`
		Address  int64       `json:"address_hourly_micros"`
		Excluded []string    `json:"excluded"`
	}{currency, list.Source, list.Date, region, types, disk, s.cfg.DiskGiB, address, excluded})
}
