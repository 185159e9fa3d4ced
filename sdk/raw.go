package sdk

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Raw is a string of bytes as a host knows it: a path, an argument, a file
// name. It need not be UTF-8 and may hold anything but NUL where the kernel
// forbids it. Its JSON form loses nothing: valid UTF-8 is a JSON string, all
// else is {"base64":"..."}.
type Raw string

// rawBase64 is the JSON form of a Raw that no JSON string can hold.
type rawBase64 struct {
	Base64 string `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (r Raw) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(r)) {
		return json.Marshal(string(r))
	}
	return json.Marshal(rawBase64{base64.StdEncoding.EncodeToString([]byte(r))})
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Raw) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		var b rawBase64
		if err := json.Unmarshal(data, &b); err != nil {
			return err
		}
		raw, err := base64.StdEncoding.DecodeString(b.Base64)
		if err != nil {
			return fmt.Errorf("raw string: %w", err)
		}
		*r = Raw(raw)
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*r = Raw(s)
	return nil
}

// String returns the bytes unchanged. Use Display to show them to a person.
func (r Raw) String() string { return string(r) }

// Display returns r in a form that is safe on a terminal and in a log:
// unchanged if it is printable UTF-8, else quoted as a Go string.
func (r Raw) Display() string {
	for _, c := range string(r) {
		if c == utf8.RuneError || !strconv.IsPrint(c) {
			return strconv.Quote(string(r))
		}
	}
	return string(r)
}
