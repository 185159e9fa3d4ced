package file

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	source, taken, full := filepath.Join(dir, "s o'u\nr\xff"), filepath.Join(dir, "taken"), filepath.Join(dir, "full")
	for _, d := range []string{source, taken, full, filepath.Join(full, filepath.Base(source))} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	to := func(source, target string) sdk.Transfer {
		return sdk.Transfer{
			ID:      "plugintest-1",
			Source:  sdk.Endpoint{Host: "db1", Path: sdk.Raw(source)},
			Targets: []sdk.Endpoint{{Host: "db2", Path: sdk.Raw(target)}},
		}
	}
	plugintest.Mode(t, New(), plugintest.ModeCase{
		Transfer: to(source, taken),
		Refused:  []sdk.Transfer{to(source+"x", taken), to(source, full), to(source, taken+"x"), to("/dev/null", taken)},
	})
}
