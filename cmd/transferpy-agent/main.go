// Command transferpy-agent is what transferpy places on hosts: it moves the
// data, and answers the controller's short commands.
package main

import (
	"context"
	"os"

	"github.com/transferpy/transferpy/core/agent/daemon"
)

func main() {
	os.Exit(daemon.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
