package plugintest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/transferpy/transferpy/plugins/executors/local"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin"
)

// TestMain serves the local executor where the test was started as a plugin.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve-local" {
		plugin.Serve(local.New())
		return
	}
	os.Exit(m.Run())
}

func TestExecutorInProcess(t *testing.T) {
	Executor(t, local.New(), ExecutorCase{Good: []string{"localhost"}, Unreachable: "elsewhere"})
}

func TestExecutorBinary(t *testing.T) {
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	Executor(t, Binary(t, self, "serve-local").(sdk.Executor), ExecutorCase{Good: []string{"localhost"}, Unreachable: "elsewhere"})
}
