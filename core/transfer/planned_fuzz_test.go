package transfer

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzDecodePlanned: whatever is understood of a stored plan survives being
// stored again.
func FuzzDecodePlanned(f *testing.F) {
	f.Add([]byte(`{"v":1,"plan":{"Read":{"builtin":"tree","path":"/srv"},"Write":{"builtin":"tree"},"Targets":[{"dir":"/in","publish":["x"]}]},"entries":-1,"verify":"read-back","agents":{"a":{"fingerprint":"00","port":4400}}}`))
	f.Add([]byte(`{"v":1} `))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := decodePlanned(text)
		if err != nil {
			return
		}
		first, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodePlanned(first)
		if err != nil {
			t.Fatalf("stored again it cannot be read: %v", err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("changed by being read:\n%s\n%s", first, second)
		}
	})
}
