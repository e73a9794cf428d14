package stripetest

import (
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

// layout is the frame of all pages.
var layout = template.Must(template.New("").Funcs(template.FuncMap{
	"money": func(cents int64, currency string) string {
		return fmt.Sprintf("%d.%02d %s", cents/100, cents%100, strings.ToUpper(currency))
	},
	"day": func(t time.Time) string { return t.Format("2 January 2006") },
}).Parse(`{{define "top"}}<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.}}</title><style>body{font:16px/1.5 sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}
label{display:block;margin:.5rem 0}input{display:block;width:100%;max-width:20rem;font:inherit}button{font:inherit;margin:.5rem .5rem .5rem 0}
[role=alert]{color:#b00}section{border-top:1px solid #999;margin-top:1rem}</style></head><body>
<p><strong>A test's Stripe.</strong> This page is not Stripe's, and takes no real card.</p><h1>{{.}}</h1>{{end}}
{{define "bottom"}}</body></html>{{end}}
{{define "error"}}{{if .}}<p role="alert">{{.}}</p>{{end}}{{end}}
{{define "card"}}<label>Card number <input name="card" inputmode="numeric" autocomplete="off" required value="4242 4242 4242 4242"></label>
<p>4242 4242 4242 4242 pays. 4000 0000 0000 0002 is declined. 4000 0000 0000 0341 can be saved, but does not pay.</p>{{end}}
{{define "checkout"}}{{template "top" "Subscribe"}}{{template "error" .Error}}
<p>{{.Price.Name}}: <strong>{{money .Price.Amount .Price.Currency}}</strong> per {{.Price.Interval}}</p>
<form method="post" aria-label="Payment">
{{if .Email}}<p>Email: {{.Email}}</p>{{else}}<label>Email <input name="email" type="email" required></label>{{end}}
{{template "card"}}<button>Subscribe</button></form>
{{if .Cancel}}<p><a href="{{.Cancel}}">Back</a></p>{{end}}{{template "bottom"}}{{end}}
{{define "message"}}{{template "top" .Title}}<p>{{.Text}}</p>{{template "bottom"}}{{end}}
{{define "invoice"}}{{template "top" "Invoice"}}{{template "error" .Error}}
<p>Invoice {{.Number}}, {{.Status}}: <strong>{{money .Due .Currency}}</strong></p>
{{range .Lines}}<p>{{.Text}}, {{day .Start}} to {{day .End}}: {{money .Amount $.Currency}}</p>{{end}}
{{if eq .Status "open"}}<form method="post" aria-label="Payment">{{template "card"}}<button>Pay invoice</button></form>{{end}}
<p><a href="{{.PDF}}">Download the PDF</a></p>{{template "bottom"}}{{end}}
{{define "portal"}}{{template "top" "Manage your plan"}}{{template "error" .Error}}
{{range .Subs}}<section aria-label="{{.Name}}"><h2>{{.Name}}</h2><p>Status: {{.Status}}. {{if .CancelAt}}It ends on {{.CancelAt}}.{{else if not .Over}}It renews on {{.End}}.{{end}}</p>
{{if not .Over}}{{if .CancelAt}}<form method="post" action="{{$.Path}}/renew"><button name="sub" value="{{.ID}}">Don't cancel plan</button></form>
{{else}}<form method="post" action="{{$.Path}}/cancel"><button name="sub" value="{{.ID}}">Cancel plan</button></form>{{end}}
{{$id := .ID}}{{$price := .Price}}<form method="post" action="{{$.Path}}/plan"><input type="hidden" name="sub" value="{{$id}}">
{{range $.Prices}}{{if ne .ID $price}}<button name="price" value="{{.ID}}">Change to {{.Name}}</button>{{end}}{{end}}</form>{{end}}</section>{{end}}
<section aria-label="Payment method"><h2>Payment method</h2><p>{{.Card}}</p>
<form method="post" action="{{.Path}}/card">{{template "card"}}<button>Save card</button></form></section>
<section aria-label="Invoices"><h2>Invoices</h2><ul>{{range .Invoices}}<li><a href="{{.URL}}">{{.Number}}</a> {{.Status}} {{money .Due .Currency}}</li>{{end}}</ul></section>
<p><a href="{{.Return}}">Return</a></p>{{template "bottom"}}{{end}}`))

func show(w http.ResponseWriter, status int, name string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = layout.ExecuteTemplate(w, name, data)
}

func message(w http.ResponseWriter, status int, title, text string) {
	show(w, status, "message", map[string]string{"Title": title, "Text": text})
}

// pages serves what a user sees: Checkout, an invoice and the portal.
func (s *Server) pages(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		message(w, http.StatusMethodNotAllowed, "Not allowed", "This page takes no such request.")
	case len(parts) == 3 && parts[0] == "c" && parts[1] == "pay":
		s.payPage(w, r, parts[2])
	case len(parts) >= 2 && parts[0] == "i":
		s.invoicePage(w, r, parts[1], len(parts) == 3 && parts[2] == "pdf")
	case len(parts) >= 3 && parts[0] == "p" && parts[1] == "session":
		s.portalPage(w, r, parts[2], strings.Join(parts[3:], "/"))
	default:
		message(w, http.StatusNotFound, "Not found", "There is no such page.")
	}
}

func (s *Server) payPage(w http.ResponseWriter, r *http.Request, id string) {
	c := s.checkoutOf(id)
	if c == nil {
		message(w, http.StatusNotFound, "Not found", "There is no such page.")
		return
	}
	email, failed := c.email, ""
	if c.customer != nil {
		email = c.customer.email
	}
	if r.Method == http.MethodPost {
		err := s.complete(c, r.PostFormValue("card"), r.PostFormValue("email"))
		if err == nil {
			http.Redirect(w, r, strings.ReplaceAll(c.success, "{CHECKOUT_SESSION_ID}", c.id), http.StatusSeeOther)
			return
		}
		failed = err.Error()
	}
	if c.status != statusOpen {
		message(w, http.StatusOK, "Subscribe", errNotOpen.Error())
		return
	}
	show(w, http.StatusOK, "checkout", map[string]any{"Price": c.price, "Email": email, "Cancel": c.cancel, "Error": failed})
}

type shownLine struct {
	Text       string
	Start, End time.Time
	Amount     int64
}

func (s *Server) invoicePage(w http.ResponseWriter, r *http.Request, id string, pdf bool) {
	i := s.invoice(id)
	switch {
	case i == nil || i.number == "":
		message(w, http.StatusNotFound, "Not found", "There is no such invoice.")
		return
	case pdf:
		w.Header().Set("Content-Type", "application/pdf")
		w.Header().Set("Content-Disposition", `attachment; filename="Invoice-`+i.number+`.pdf"`)
		_, _ = w.Write(pdfOf(fmt.Sprintf("A test's Stripe. Invoice %s, %s: %d %s cents", i.number, i.status, i.due, i.sub.price.Currency)))
		return
	}
	failed := ""
	if r.Method == http.MethodPost {
		err := s.payInvoice(i, r.PostFormValue("card"))
		if err == nil {
			http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
			return
		}
		failed = err.Error()
	}
	lines := make([]shownLine, len(i.lines))
	for n, l := range i.lines {
		lines[n] = shownLine{l.text, l.start, l.end, l.amount}
	}
	show(w, http.StatusOK, "invoice", map[string]any{
		"Number": i.number, "Status": i.status, "Due": i.due, "Currency": i.sub.price.Currency, "Lines": lines, "PDF": r.URL.Path + "/pdf", "Error": failed,
	})
}

// pdfOf returns a document of one line.
func pdfOf(line string) []byte {
	content := "BT /F1 12 Tf 40 780 Td (" + strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(line) + ") Tj ET"
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R >>",
		"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(content), content),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
	}
	text, places := "%PDF-1.4\n", ""
	for n, o := range objects {
		places += fmt.Sprintf("%010d 00000 n \n", len(text))
		text += fmt.Sprintf("%d 0 obj\n%s\nendobj\n", n+1, o)
	}
	return fmt.Appendf(nil, "%sxref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n",
		text, len(objects)+1, places, len(objects)+1, len(text))
}
