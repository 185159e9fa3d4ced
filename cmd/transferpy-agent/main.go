// Command transferpy-agent is what transferpy places on hosts: it moves the
// data, and answers the controller's short commands.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/transferpy/transferpy/core/agent/daemon"
)

// memoryLimit is what the collector keeps the agent's memory below, in bytes:
// all buffers have budgets, and without a limit it would let as much again,
// and more, lie about before it frees it. It leaves 64 MiB to what it does not
// count (the program's own pages) of the 256 MiB that an agent may take of a
// busy host.
const memoryLimit = 192 << 20

func main() {
	debug.SetMemoryLimit(memoryLimit)
	os.Exit(daemon.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
