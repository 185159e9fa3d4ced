package staging

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// TestLastComesLast: what proves a copy complete is published after all else;
// a name that is not there is left out.
func TestLastComesLast(t *testing.T) {
	s, err := Create(Spec{Transfer: "t", Member: "m", Dest: sdk.Destination{Dir: sdk.Raw(t.TempDir()), Last: []sdk.Raw{"a-info", "not-there", "b-info"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{"b-info", "z", "a-info", "c"} {
		if err := os.WriteFile(filepath.Join(s.Path(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := s.toPublish()
	if want := []sdk.Raw{"c", "z", "a-info", "b-info"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
}
