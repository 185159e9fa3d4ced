// Command bench measures transferpy against named peers between two hosts of
// the lab, in one run, with rounds in which all take turns. It judges nothing
// and fails only when something cannot be run.
//
//	go run ./test/bench              what a transfer costs beside its bytes
//	go run ./test/bench -full        all cases, written to docs/benchmarks.md
//	go run ./test/bench -list        the names of the cases
//	go run ./test/bench -cases innodb-tmpfs -rounds 1 -scale 0.2
//	go run ./test/bench -cases large-tmpfs -only no-compress -rounds 1 -profile DIR
//
// which make bench-quick and make bench do for the first two.
//
// A ratio holds within one run alone: compare no seconds between machines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/transferpy/transferpy/test/lab"
)

// options are what the command line says.
type options struct {
	bin    string
	rounds int
	full   bool
	cases  string  // names, with commas
	only   string  // contenders to run, by a part of their names, with commas
	scale  float64 // of the data's size
	cache  string  // where the InnoDB directory is kept
	disk   string  // below which the hosts' disks lie
	out    string  // the page to write
	list   bool
	redo   bool
	keep   string  // below which profiles of the agents are kept; empty: none are made
	load   float64 // of the machine before the run
}

func main() {
	lab.Main()
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "runs of each `N`; the median counts")
	flag.StringVar(&o.bin, "bin", "bin", "`DIR` with the transferpy to measure")
	flag.BoolVar(&o.full, "full", false, "run all cases and write docs/benchmarks.md")
	flag.StringVar(&o.cases, "cases", "", "run these cases alone: `NAME,...`")
	flag.StringVar(&o.only, "only", "", "run these contenders alone, known by a part of the name: `TEXT,...`")
	flag.Float64Var(&o.scale, "scale", 1, "`FACTOR` for the size of all data, to try things out")
	flag.StringVar(&o.cache, "cache", filepath.Join(os.TempDir(), "transferpy-bench-data"), "`DIR` in which the InnoDB directory is kept for the next run")
	flag.StringVar(&o.disk, "disk", "/var/tmp", "`DIR` of the file system to measure as a disk")
	flag.StringVar(&o.out, "out", "", "write the page to `FILE` (with -full: docs/benchmarks.md)")
	flag.BoolVar(&o.list, "list", false, "list the cases")
	flag.StringVar(&o.keep, "profile", "", "have the agents profiled, keep that below `DIR` and tell what they spend their time on; costs some of it, so no page is written")
	flag.BoolVar(&o.redo, "rebuild", false, "build the InnoDB directory anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// run does what the options ask for.
func (o *options) run(ctx context.Context, stdout, stderr io.Writer) error {
	if o.rounds < 1 || o.rounds > 100 || o.scale <= 0 || o.scale > 10 {
		return errors.New("-rounds is 1 to 100, -scale above 0 and at most 10")
	}
	if o.list {
		for _, c := range cases() {
			fmt.Fprintf(stdout, "%-16s %s\n", c.name, c.title)
		}
		return nil
	}
	remove, err := o.copyBinary()
	if err != nil {
		return err
	}
	defer remove()
	if !o.full && o.cases == "" && o.keep == "" {
		return bench(ctx, o.bin, o.rounds, stdout, stderr)
	}
	chosen, err := choose(cases(), o.cases)
	if err != nil {
		return err
	}
	if err := needs(chosen); err != nil {
		return err
	}
	if o.keep != "" {
		if o.out != "" {
			return errors.New("-profile and -out exclude each other: what is profiled is no result")
		}
	} else if o.full && o.out == "" {
		o.out = filepath.Join("docs", "benchmarks.md")
	}
	return o.compare(ctx, chosen, stdout, stderr)
}

// copyBinary copies the transferpy under test and sets o.bin to the copy's
// directory, since somebody may build a new one while this runs.
func (o *options) copyBinary() (remove func(), err error) {
	text, err := os.ReadFile(filepath.Join(o.bin, "transferpy"))
	if err != nil {
		return nil, fmt.Errorf("%w; build it: make build", err)
	}
	dir, err := os.MkdirTemp("", "transferpy-bench-bin-")
	if err != nil {
		return nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	if err := os.WriteFile(filepath.Join(dir, "transferpy"), text, 0o755); err != nil {
		remove()
		return nil, err
	}
	o.bin = dir
	return remove, nil
}

// choose picks cases by name; no name picks all.
func choose(all []testCase, names string) ([]testCase, error) {
	if names == "" {
		return all, nil
	}
	var chosen []testCase
	for name := range strings.SplitSeq(names, ",") {
		found := false
		for _, c := range all {
			if c.name == name {
				chosen, found = append(chosen, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no case %q; go run ./test/bench -list names them", name)
		}
	}
	return chosen, nil
}
