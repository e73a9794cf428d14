package stripe_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// description is Stripe's description of its API, in OpenAPI.
type description struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
	}
	Components struct{ Schemas map[string]map[string]any }
}

// answer returns the schema of a call's answer; nil: there is no such call.
func (d *description) answer(method, path string) map[string]any {
	parts := strings.Split(path, "/")
	for pattern, verbs := range d.Paths {
		want := strings.Split(pattern, "/")
		fits := len(want) == len(parts)
		for i := 0; fits && i < len(want); i++ {
			fits = want[i] == parts[i] || strings.HasPrefix(want[i], "{")
		}
		if call, ok := verbs[strings.ToLower(method)]; fits && ok {
			return call.Responses["200"].Content["application/json"].Schema
		}
	}
	return nil
}

// check returns what of a value does not fit a schema.
func (d *description) check(schema map[string]any, v any, at string) (wrong []string) {
	if ref, ok := schema["$ref"].(string); ok {
		schema = d.Components.Schemas[strings.TrimPrefix(ref, "#/components/schemas/")]
		if schema == nil {
			return []string{at + ": there is no schema " + ref}
		}
	}
	if v == nil {
		if schema["nullable"] != true {
			return []string{at + " is null"}
		}
		return nil
	}
	if choices, ok := schema["anyOf"].([]any); ok {
		for _, one := range choices {
			found := d.check(one.(map[string]any), v, at)
			if len(found) == 0 {
				return nil
			}
			wrong = append(wrong, found...)
		}
		return wrong
	}
	fits := true
	switch schema["type"] {
	case "string":
		_, fits = v.(string)
	case "boolean":
		_, fits = v.(bool)
	case "number":
		_, fits = v.(float64)
	case "integer":
		n, ok := v.(float64)
		fits = ok && n == math.Trunc(n)
	case "array":
		list, ok := v.([]any)
		for i, item := range list {
			wrong = append(wrong, d.check(schema["items"].(map[string]any), item, fmt.Sprintf("%s[%d]", at, i))...)
		}
		fits = ok
	case "object":
		o, ok := v.(map[string]any)
		if ok {
			wrong = d.fields(schema, o, at)
		}
		fits = ok
	}
	if !fits {
		wrong = append(wrong, fmt.Sprintf("%s is %v, not of type %v", at, v, schema["type"]))
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		wrong = append(wrong, fmt.Sprintf("%s is %v, not one of %v", at, v, enum))
	}
	return wrong
}

func (d *description) fields(schema, o map[string]any, at string) (wrong []string) {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := o[name.(string)]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s.%s is missing", at, name))
		}
	}
	known, _ := schema["properties"].(map[string]any)
	for name, v := range o {
		switch field, ok := known[name].(map[string]any); {
		case ok:
			wrong = append(wrong, d.check(field, v, at+"."+name)...)
		case len(known) > 0 && schema["additionalProperties"] == nil:
			wrong = append(wrong, fmt.Sprintf("%s.%s is no field of Stripe's", at, name))
		}
	}
	return wrong
}
