// Command bench measures what a transfer costs beside its bytes: a directory
// of 1 MB with the agents in place, on this machine and, as root, over ssh
// between two hosts of the lab. It prints a table with the executor calls
// made and a named peer's time for the same; it judges nothing.
//
//	go run ./test/bench [-n RUNS] [-bin DIR]
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

func main() {
	lab.Main()
	runs := flag.Int("n", 5, "runs of each case; the median counts")
	bin := flag.String("bin", "bin", "directory with the transferpy to measure")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *bin, *runs, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// row is one line of the table.
type row struct {
	name     string
	ours     sample
	calls    int
	peerName string
	peer     sample
}

// bench measures all cases that this machine can and prints the table.
func bench(ctx context.Context, bin string, runs int, stdout, stderr io.Writer) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "transferpy-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	rows := []row{}
	local, err := benchLocal(ctx, filepath.Join(bin, "transferpy"), dir, runs)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	rows = append(rows, local)
	if why := lab.Available(); why != nil {
		fmt.Fprintln(stderr, "bench: no lab, so nothing over ssh:", why)
	} else {
		ssh, err := benchLab(ctx, bin, runs)
		if err != nil {
			return fmt.Errorf("lab: %w", err)
		}
		rows = append(rows, ssh...)
	}
	return print(stdout, rows, runs)
}

// print prints the table.
func print(w io.Writer, rows []row, runs int) error {
	fmt.Fprintf(w, "1 MB in %d files, agents in place; median (lowest) of %d runs\n", treeFiles, runs)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "case\ttransferpy\texecutor calls\tpeer\tpeer's time\tratio")
	for _, r := range rows {
		ratio := "-"
		if r.peer.median > 0 {
			ratio = fmt.Sprintf("%.1f", float64(r.ours.median)/float64(r.peer.median))
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\n", r.name, r.ours, r.calls, r.peerName, r.peer, ratio)
	}
	return table.Flush()
}

// sample is what several runs took.
type sample struct{ median, lowest time.Duration }

// String implements fmt.Stringer.
func (s sample) String() string {
	return fmt.Sprintf("%.3f s (%.3f)", s.median.Seconds(), s.lowest.Seconds())
}
