package httpapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A list is written by hand, with the bytes of encoding/json. The views are drawn by their types, so a new field is compared too.
func TestListIsWrittenAsByEncodingJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var v listView
		draw(t, reflect.ValueOf(&v).Elem())
		var want bytes.Buffer
		if err := json.NewEncoder(&want).Encode(v); err != nil {
			t.Fatal(err)
		}
		if got, err := v.json(); err != nil || string(got) != want.String() {
			t.Fatalf("got  %s, %v\nwant %s", got, err, &want)
		}
	})
	late := time.Unix(1e12, 0).UTC() // JSON has no such year
	for _, v := range []instanceView{{CreatedAt: late}, {Idle: &idleView{WakeAt: &late}}, {Idle: &idleView{Warning: &warningView{StopAt: late}}}} {
		if got, err := (&listView{Instances: []instanceView{v}}).json(); err == nil {
			t.Errorf("got %s, want an error", got)
		}
	}
}

// draw fills a value in.
func draw(t *rapid.T, v reflect.Value) {
	if at, ok := v.Addr().Interface().(*time.Time); ok {
		if rapid.Bool().Draw(t, "set") {
			*at = time.Unix(rapid.Int64Range(0, 9e9).Draw(t, "seconds"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds")).UTC()
		}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "plain", `"<&>\`, "\u2028", "\xff", "\x7f\n"})).Draw(t, "text"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "number"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "yes"))
	case reflect.Struct:
		for n := range v.NumField() {
			draw(t, v.Field(n))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.New(v.Type().Elem()))
			draw(t, v.Elem())
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(0, 3).Draw(t, "length"), 3))
		for n := range v.Len() {
			draw(t, v.Index(n))
		}
	case reflect.Map:
		if rapid.Bool().Draw(t, "there") {
			v.Set(reflect.ValueOf(rapid.MapOfN(rapid.SampledFrom([]string{"os", "guest", "<"}), rapid.SampledFrom([]string{"1", "2"}), 0, 2).Draw(t, "map")))
		}
	default:
		t.Fatalf("draw cannot fill in %v", v.Type())
	}
}
