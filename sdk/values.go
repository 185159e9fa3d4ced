package sdk

import (
	"strconv"
	"time"
)

// Values are a plugin's configuration, key by key, in canonical form: the
// core has checked them against the described fields, filled in defaults and
// written each in the one form that the accessors read. A list has any number
// of elements, every other type exactly one.
type Values map[string][]string

// String returns the value of a key; empty if it has none.
func (v Values) String(key string) string {
	if s := v[key]; len(s) > 0 {
		return s[0]
	}
	return ""
}

// Has reports whether a key has a value, by default or by configuration.
func (v Values) Has(key string) bool { return len(v[key]) > 0 }

// Bool returns the value of a TypeBool key; false if it has none.
func (v Values) Bool(key string) bool { return v.String(key) == "true" }

// Int returns the value of a TypeInt or TypeSize key; 0 if it has none.
func (v Values) Int(key string) int64 {
	n, _ := strconv.ParseInt(v.String(key), 10, 64)
	return n
}

// Duration returns the value of a TypeDuration key; 0 if it has none.
func (v Values) Duration(key string) time.Duration {
	d, _ := time.ParseDuration(v.String(key))
	return d
}

// List returns the values of a TypeList key.
func (v Values) List(key string) []string { return v[key] }
