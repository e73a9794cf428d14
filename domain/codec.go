package domain

import "encoding/json"

// Unmarshal reads an event's data as a T, for the codecs of the packages below.
func Unmarshal[T any](data []byte) (T, error) {
	var v T
	err := json.Unmarshal(data, &v)
	return v, err
}
