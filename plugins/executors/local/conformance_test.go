package local

import (
	"testing"

	"github.com/transferpy/transferpy/sdk/plugintest"
)

func TestConformance(t *testing.T) {
	plugintest.Executor(t, New(), plugintest.ExecutorCase{Good: []string{"localhost"}, Unreachable: "elsewhere"})
}
