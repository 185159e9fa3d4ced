package preflight

import (
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.00 kB", 999_999: "1.00 MB", 12_345_678: "12.3 MB", 2e12: "2.00 TB", 1<<63 - 1: "9.22 EB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestEmptyAndTwice(t *testing.T) {
	tr := sdk.Transfer{Targets: []sdk.Endpoint{{Host: "a", Path: "/x"}, {Host: "a", Path: "/x/"}, {Host: "b", Path: "/x"}}}
	_, dirs, err := Paths(sdk.Transfer{Source: sdk.Endpoint{Path: "/s"}, Targets: tr.Targets}, "hint")
	if err != nil {
		t.Fatal(err)
	}
	in := New(tr, nil)
	for i := range dirs {
		in.Once(i, dirs)
	}
	in.Empty("b", "/x", sdk.PathFacts{Exists: true, Type: sdk.FileDirectory})
	in.Empty("b", "/y", sdk.PathFacts{Exists: true, Type: sdk.FileDirectory, Empty: true})
	var words []string
	for _, e := range in.Found.Refusals {
		words = append(words, string(e.Kind)+" "+e.Host)
	}
	if got := strings.Join(words, ", "); got != "config a, exists b" {
		t.Error(got)
	}
}
