// Command transferpy moves files and directory trees from one host to many,
// and proves that what lies on the targets is what was read on the source. It
// turns flags and configuration into a transfer.Request, shows what happens,
// and tells the outcome by its exit code; the work is core/transfer's.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
