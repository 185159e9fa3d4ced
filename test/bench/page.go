package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// notes begins what people write on the page; the command leaves it as it is.
const notes = "\n## Notes\n"

// publish writes the page to where the options say, and to w.
func (o *options) publish(ctx context.Context, results []*result, w io.Writer) error {
	var b bytes.Buffer
	o.page(&b, machine(ctx), results, time.Now())
	if _, err := w.Write(b.Bytes()); err != nil || o.out == "" {
		return err
	}
	old, err := os.ReadFile(o.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if i := bytes.Index(old, []byte(notes)); i >= 0 {
		b.Write(old[i:])
	}
	return os.WriteFile(o.out, b.Bytes(), 0o644)
}

const introduction = `# Benchmarks

Written by ` + "`make bench`" + `: change nothing above the heading "Notes" by hand.
Measured %s with %s, on %s.

Two hosts of the lab (network namespaces on one machine, a link without a limit
where none is named, no delay), so source, target and the control host share
the cores. All contenders of a case take turns in one run; the figures are
medians of %s. Compare ratios, not seconds: they hold in one run alone.

- *seconds*: wall time of the whole command, and in brackets the lowest and
  highest run. transferpy's includes everything from its start to its report:
  logging in, preflight, the copy, reading it back, publishing. "1 MB" is
  transferpy's time for 1 MB in the same run: its fixed cost.
- *ratio*: (transferpy's seconds - those of its 1 MB) / the peer's seconds; in
  brackets the same of the CPU time of both hosts together, which suffers less
  when others use the machine. Below 1, transferpy is faster.
- *CPU s/GB*: user and system time of all processes of the host, for each GB
  (1,000,000,000 bytes) of data.
- *wire*: bytes that the source's interface has sent. Where the link has a
  limit, every packet's headers are counted, else one header for what the
  kernel hands on in one piece.
- *peak*: the largest resident memory that an agent has had. A *relay* is the
  target that passes on to another; there the CPU time is that of all targets
  together.

transferpy encrypts (TLS 1.3), signs and checks whatever the flags;
` + "`transferpy`" + ` alone also compresses and reads back what was written,
` + "`--no-compress`" + ` does not compress, ` + "`--no-checksum`" + ` does not read back,
` + "`--parallel-checksum`" + ` compares digests of what was received. The peers
that use nc neither encrypt nor check. "transfer.py 1.2, as it is" is the pipeline
that it makes of its defaults, without its checksum and its serial checks (some
9 s more): tar, pigz, openssl enc -chacha20 -bufsize 8, nc, with its pause of
3 s; "repaired" is the same with -bufsize 8k and without the pause. They are run
in the first round alone. Every run begins with the source's pages evicted from
the cache, into a new directory, and ends with a count of what has arrived.
`

// page writes the whole page without the notes.
func (o *options) page(w io.Writer, m machineFacts, results []*result, now time.Time) {
	rounds := fmt.Sprintf("%d rounds, or fewer where a case says so", o.rounds)
	fmt.Fprintf(w, introduction, now.UTC().Format(time.DateOnly), o.version(), m, rounds)
	if o.scale != 1 {
		fmt.Fprintf(w, "\n**All data is scaled by %g: a trial, not a result.**\n", o.scale)
	}
	if o.load > 1 {
		fmt.Fprintf(w, "\n**The machine was not idle: its load was %.0f before the run. Trust the ratios of CPU time more than those of wall time.**\n", o.load)
	}
	fmt.Fprint(w, "\n## Marks\n\n| case | peer | mark | ratio | of CPU | |\n|---|---|---|---|---|---|\n")
	for _, m := range marks() {
		fmt.Fprintln(w, m.verdict(results))
	}
	for _, r := range results {
		r.write(w)
	}
}

// write writes a case: who took what, and the ratios.
func (r *result) write(w io.Writer) {
	fmt.Fprintf(w, "\n## %s\n\n%d files, %.3f GB", r.title, r.size.files, float64(r.size.bytes)/1e9)
	if n := len(r.fixed.runs); n > 0 {
		fmt.Fprintf(w, "; transferpy's 1 MB: %s; rounds: %d", r.fixed.seconds(), n)
	}
	fmt.Fprint(w, ".\n\n| | seconds | CPU s/GB source | target | wire GB | peak MiB source | relay | target |\n|---|---|---|---|---|---|---|---|\n")
	gigabytes := max(float64(r.size.bytes)/1e9, 1e-9)
	for i := range r.entries {
		e := &r.entries[i]
		if len(e.runs) == 0 {
			fmt.Fprintf(w, "| %s | failed | | | | | | |\n", code(e.name))
			continue
		}
		source, relay, target := e.peaks()
		fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.3f | %s | %s | %s |\n", code(e.name), e.seconds(),
			e.source().Seconds()/gigabytes, e.target().Seconds()/gigabytes, float64(e.wire())/1e9, mebibytes(source), mebibytes(relay), mebibytes(target))
	}
	r.writeRatios(w)
}

// mebibytes is a peak as it is shown; nothing where none was measured.
func mebibytes(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n >> 20)
}

// writeRatios writes each of ours against each peer.
func (r *result) writeRatios(w io.Writer) {
	var us, peers []*entry
	for i := range r.entries {
		e := &r.entries[i]
		switch {
		case len(e.runs) == 0, e.fan > 1: // no peer copies to several
		case e.ours:
			us = append(us, e)
		default:
			peers = append(peers, e)
		}
	}
	if len(us) == 0 || len(peers) == 0 || len(r.fixed.runs) == 0 {
		return
	}
	fmt.Fprint(w, "\n| ratio to |")
	for _, e := range us {
		fmt.Fprintf(w, " %s |", code(e.name))
	}
	fmt.Fprint(w, "\n|---|", strings.Repeat("---|", len(us)), "\n")
	for _, peer := range peers {
		fmt.Fprintf(w, "| %s |", code(peer.name))
		for _, e := range us {
			fmt.Fprintf(w, " %.2f (%.2f) |", r.ratio(e, peer), r.cpuRatio(e, peer))
		}
		fmt.Fprintln(w)
	}
}

// seconds is the median, and the range when there is one.
func (e *entry) seconds() string {
	lowest, highest := e.runs[0].wall, e.runs[0].wall
	for _, one := range e.runs {
		lowest, highest = min(lowest, one.wall), max(highest, one.wall)
	}
	if len(e.runs) == 1 {
		return fmt.Sprintf("%.2f", e.wall().Seconds())
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", e.wall().Seconds(), lowest.Seconds(), highest.Seconds())
}

// code is a name of commands as Markdown shows code; a bar in it would end
// the table's cell.
func code(name string) string {
	if strings.HasPrefix(name, "transfer.py") {
		return name
	}
	return "`" + strings.ReplaceAll(name, "|", `\|`) + "`"
}
