package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// field is one field of a request's body: a string, unless one of the last four says otherwise.
type field struct {
	name     string
	into     *string
	optional bool  // may be left out or null
	null     *bool // if set, the field may be null, which sets it

	table  map[string]string // if set, the field is an object of strings, which are put here
	number *int64            // if set, the field is a whole number
	list   *[]string         // if set, the field is a list of strings
	object []field           // if set, the field is an object with these fields
}

// maxTable is how many strings an object in a body may have, and maxList how many a list may have.
const (
	maxTable = 32
	maxList  = 64
)

// readBody reads a JSON object that has only the given fields. Other nesting, duplicates, other types and names that differ
// in case are refused. Errors never repeat a value, which may be a secret.
func readBody(c echo.Context, fields ...field) error {
	r := c.Request()
	if r.ContentLength == 0 && len(fields) == 0 {
		return nil
	}
	data, err := io.ReadAll(r.Body) // collect has read it
	if err != nil {
		return err
	}
	if len(data) == 0 && len(fields) == 0 {
		return nil
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || kind != "application/json" || r.Header.Get("Content-Encoding") != "" ||
		charset != "" && !strings.EqualFold(charset, "utf-8") {
		return errMedia
	}
	if !utf8.Valid(data) {
		return badRequest("malformed_json", "The body is not valid UTF-8.")
	}
	return parseBody(data, fields)
}

func parseBody(data []byte, fields []field) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	first, err := d.Token()
	if err != nil {
		return malformed(err)
	}
	if first != json.Delim('{') {
		return invalid("wrong_type", "The body must be a JSON object.")
	}
	if err := readObject(d, fields); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("malformed_json", "There is data after the JSON object.")
	}
	return nil
}

// readObject reads an object whose brace was read.
func readObject(d *json.Decoder, fields []field) error {
	var seen []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		key, _ := name.(string)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			return invalid("unknown_field", fmt.Sprintf("Unknown field %q; %s.", shorten(key), expected(fields)))
		}
		if slices.Contains(seen, key) {
			return invalid("duplicate_field", fmt.Sprintf("The field %q appears twice.", key))
		}
		seen = append(seen, key)
		if err := readValue(d, fields[i]); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	for _, f := range fields {
		if !f.optional && !slices.Contains(seen, f.name) {
			return invalid("missing_field", fmt.Sprintf("The field %q is missing.", f.name))
		}
	}
	return nil
}

func readValue(d *json.Decoder, f field) error {
	value, err := d.Token()
	if err != nil {
		return malformed(err)
	}
	wrong := func(want string) error {
		return invalid("wrong_type", fmt.Sprintf("The field %q must be %s.", f.name, want))
	}
	switch {
	case value == nil && f.null != nil:
		*f.null = true
		return nil
	case value == nil && f.optional:
		return nil
	case f.object != nil:
		if value != json.Delim('{') {
			return wrong("an object")
		}
		return readObject(d, f.object)
	case f.table != nil:
		if value != json.Delim('{') {
			return wrong("an object of strings")
		}
		return readTable(d, f)
	case f.list != nil:
		if value != json.Delim('[') {
			return wrong("a list of strings")
		}
		return readList(d, f)
	case f.number != nil:
		number, isNumber := value.(json.Number)
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if !isNumber || err != nil {
			return wrong("a whole number")
		}
		*f.number = n
		return nil
	}
	text, isText := value.(string)
	if !isText {
		return wrong("a string")
	}
	*f.into = text
	return nil
}

// readTable reads an object of strings whose brace was read.
func readTable(d *json.Decoder, f field) error {
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		key, _ := name.(string)
		value, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		text, isText := value.(string)
		_, twice := f.table[key]
		switch {
		case twice:
			return invalid("duplicate_field", fmt.Sprintf("The field %q appears twice in %q.", shorten(key), f.name))
		case !isText:
			return invalid("wrong_type", fmt.Sprintf("The field %q in %q must be a string.", shorten(key), f.name))
		case len(f.table) == maxTable:
			return invalid("too_many_fields", fmt.Sprintf("The field %q has more than %d entries.", f.name, maxTable))
		}
		f.table[key] = text
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	return nil
}

// readList reads a list of strings whose bracket was read.
func readList(d *json.Decoder, f field) error {
	list := []string{}
	for d.More() {
		value, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		text, isText := value.(string)
		switch {
		case !isText:
			return invalid("wrong_type", fmt.Sprintf("Each entry of %q must be a string.", f.name))
		case len(list) == maxList:
			return invalid("too_many_fields", fmt.Sprintf("The field %q has more than %d entries.", f.name, maxList))
		}
		list = append(list, text)
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	*f.list = list
	return nil
}

func malformed(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return badRequest("malformed_json", fmt.Sprintf("The body is invalid JSON near byte %d.", syntax.Offset))
	}
	return badRequest("malformed_json", "The body is incomplete JSON.")
}

func expected(fields []field) string {
	if len(fields) == 0 {
		return "the body must be empty"
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return "known fields: " + strings.Join(names, ", ")
}

// shorten cuts a client's text for an answer.
func shorten(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}
