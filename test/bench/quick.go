package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// The tree: 64 files of 16 KiB are 1 MiB.
const (
	treeFiles    = 64
	treeFileSize = 16 << 10
)

// makeTree makes the tree at dir, of bytes that do not compress and are the
// same each time.
func makeTree(dir string) error {
	random := rand.NewChaCha8([32]byte{})
	data := make([]byte, treeFileSize)
	for i := range treeFiles {
		sub := filepath.Join(dir, strconv.Itoa(i%8))
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		random.Read(data) // never fails
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// row is one line of the table.
type row struct {
	name     string
	ours     sample
	calls    int
	peerName string
	peer     sample
}

// bench measures the fixed costs in all ways that this machine can and prints the table.
func bench(ctx context.Context, bin string, runs int, stdout, stderr io.Writer) error {
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
	return printFixed(stdout, rows, runs)
}

// printFixed prints the table.
func printFixed(w io.Writer, rows []row, runs int) error {
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

// timed runs once to warm up and then the asked number of times.
func timed(runs int, run func(i int) error) (sample, error) {
	var took []time.Duration
	for i := range runs + 1 {
		began := time.Now()
		if err := run(i); err != nil {
			return sample{}, err
		}
		if i > 0 {
			took = append(took, time.Since(began))
		}
	}
	if len(took) == 0 {
		return sample{}, errors.New("no runs asked for")
	}
	slices.Sort(took)
	return sample{median: took[len(took)/2], lowest: took[0]}, nil
}

// outcome runs transferpy with --output json in it and returns the executor
// calls that its last line tells.
func outcome(cmd *exec.Cmd) (int, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, stdout.String(), stderr.String())
	}
	lines := bytes.Split(bytes.TrimSpace(stdout.Bytes()), []byte("\n"))
	var done struct {
		Event string `json:"event"`
		Calls int    `json:"executor_calls"`
	}
	if err := json.Unmarshal(lines[len(lines)-1], &done); err != nil || done.Event != "done" {
		return 0, fmt.Errorf("the last line is no report: %q (%v)", lines[len(lines)-1], err)
	}
	return done.Calls, nil
}

// benchLocal copies on this machine; the peer is cp -a.
func benchLocal(ctx context.Context, program, dir string, runs int) (row, error) {
	r := row{name: "localhost to localhost", peerName: "cp -a"}
	source := filepath.Join(dir, "tree")
	if err := makeTree(source); err != nil {
		return r, err
	}
	target := func(kind string, i int) (string, error) {
		path := filepath.Join(dir, kind+strconv.Itoa(i))
		return path, os.Mkdir(path, 0o755)
	}
	var err error
	r.ours, err = timed(runs, func(i int) error {
		into, err := target("ours", i)
		if err != nil {
			return err
		}
		r.calls, err = outcome(exec.CommandContext(ctx, program, "--config", "/dev/null", "--output", "json", "--progress", "never",
			"localhost:"+source, "localhost:"+into))
		return err
	})
	if err != nil {
		return r, err
	}
	r.peer, err = timed(runs, func(i int) error {
		into, err := target("peer", i)
		if err != nil {
			return err
		}
		return exec.CommandContext(ctx, "cp", "-a", source, into).Run()
	})
	return r, err
}

// benchLab copies over ssh between lab hosts: to one target and to two. The
// peer is rsync -a over ssh, which copies from one host to the one it runs on.
func benchLab(ctx context.Context, bin string, runs int) ([]row, error) {
	l, err := lab.Up(ctx, lab.Options{Hosts: 3, Bin: bin})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	source, err := l.Path("db1", "/srv/tree")
	if err != nil {
		return nil, err
	}
	if err := makeTree(source); err != nil {
		return nil, err
	}
	peer, err := timed(runs, func(i int) error {
		_, err := l.Run(ctx, lab.Control, "rsync", "-a", "db1:/srv/tree", fmt.Sprintf("/srv/peer%d/", i))
		return err
	})
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, targets := range [][]string{{"db2"}, {"db2", "db3"}} {
		r := row{name: fmt.Sprintf("ssh: db1 to %s", strings.Join(targets, ", ")), peerName: "rsync -a over ssh, one target", peer: peer}
		r.ours, err = timed(runs, func(i int) error {
			argv := []string{"transferpy", "--output", "json", "--progress", "never", "db1:/srv/tree"}
			for _, host := range targets {
				into := fmt.Sprintf("/srv/in%d-%d", len(targets), i)
				path, err := l.Path(host, into)
				if err != nil {
					return err
				}
				if err := os.Mkdir(path, 0o755); err != nil {
					return err
				}
				argv = append(argv, host+":"+into)
			}
			r.calls, err = outcome(l.Cmd(lab.Control, argv...))
			return err
		})
		if err != nil {
			return rows, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}
