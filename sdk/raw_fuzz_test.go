package sdk

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzRaw: any bytes survive JSON, and what is shown of them is safe.
func FuzzRaw(f *testing.F) {
	f.Add("/srv/data")
	f.Add("\xff\x00\x1b[2J\u202e\ufffd")
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(Raw(s))
		if err != nil {
			t.Fatal(err)
		}
		var got Raw
		if err := json.Unmarshal(text, &got); err != nil || string(got) != s {
			t.Fatalf("%q became %q by %s, %v", s, got, text, err)
		}
		if strings.ContainsFunc(Raw(s).Display(), func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u202e' }) {
			t.Fatalf("%q is shown as %q", s, Raw(s).Display())
		}
	})
}

// FuzzRawJSON: no JSON makes a Raw that is another one when it is written again.
func FuzzRawJSON(f *testing.F) {
	f.Add([]byte(`"a"`))
	f.Add([]byte(`{"base64":"/w=="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second Raw
		if json.Unmarshal(text, &first) != nil {
			return
		}
		again, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &second); err != nil || first != second {
			t.Fatalf("%q became %q, %v", first, second, err)
		}
	})
}
