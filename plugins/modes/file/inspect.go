package file

import (
	"context"
	"fmt"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

const (
	// An entry takes a block beyond its bytes: a directory's own, or the
	// unused part of a file's last one. The rest is for the manifest and the
	// file system's own records.
	blockSize   = 4 << 10
	reserve     = 1 << 20
	spareInodes = 16 // the staging directory and what is in it
)

// inspection collects what is wrong with one transfer.
type inspection struct {
	t       sdk.Transfer
	p       *paths
	answers map[string]sdk.Answers
	found   sdk.Findings
}

// Inspect judges the answers; all refusals come together. It asks nothing
// more of the hosts.
func (mode) Inspect(_ context.Context, t sdk.Transfer, answers []sdk.Answers, _ sdk.Host) (sdk.Findings, error) {
	p, err := parse(t)
	if err != nil {
		return sdk.Findings{}, err
	}
	in := &inspection{t: t, p: p, answers: make(map[string]sdk.Answers, len(answers))}
	for _, a := range answers {
		in.answers[a.Host] = a
	}
	in.found.Bytes, in.found.Entries = -1, -1
	in.source()
	for i := range t.Targets {
		in.target(i)
	}
	return in.found, nil
}

func (in *inspection) refuse(kind sdk.ErrorKind, host, hint, format string, args ...any) {
	in.found.Refusals = append(in.found.Refusals, &sdk.Error{Kind: kind, Host: host, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (in *inspection) warn(format string, args ...any) {
	in.found.Warnings = append(in.found.Warnings, fmt.Sprintf(format, args...))
}

// facts returns the answer to a question, or refuses for want of it.
func (in *inspection) facts(host, id, what string, path sdk.Raw) (sdk.PathFacts, bool) {
	f, ok := in.answers[host].Paths[id]
	if !ok {
		in.refuse(sdk.KindUnreachable, host, "check that the host answers: transferpy exec "+host+" -- true",
			"did not say anything about the %s %s", what, path.Display())
		return f, false
	}
	if f.Err != nil {
		e := *f.Err
		e.Host = host
		e.Message = fmt.Sprintf("cannot look at the %s %s: %s", what, path.Display(), f.Err.Message)
		in.found.Refusals = append(in.found.Refusals, &e)
		return f, false
	}
	return f, true
}

func (in *inspection) source() {
	host, shown := in.t.Source.Host, in.p.source.Display()
	f, ok := in.facts(host, askSource, "source", in.p.source)
	switch {
	case !ok:
		return
	case !f.Exists:
		in.refuse(sdk.KindNotFound, host, "check the path: ls -ld on that host", "the source %s does not exist", shown)
		return
	case f.Type == sdk.FileSymlink:
		in.refuse(sdk.KindUnsupported, host, "name what it points to", "the source %s is a symbolic link", shown)
		return
	case f.Type != sdk.FileRegular && f.Type != sdk.FileDirectory:
		in.refuse(sdk.KindUnsupported, host, "name a regular file or a directory", "the source %s is a %s, not a file or a directory", shown, f.Type)
		return
	case !f.Readable:
		in.refuse(sdk.KindPermission, host, "run as a user who may, for example with -o ssh.sudo=true", "the source %s cannot be read", shown)
	}
	in.found.Bytes, in.found.Entries, in.found.AtLeast = f.Bytes, f.Entries, f.Partial
	if f.Entries == 0 {
		in.found.Bytes, in.found.Entries = f.Size, 1
		in.found.AtLeast = f.Partial || f.Type == sdk.FileDirectory
	}
	if in.found.AtLeast {
		in.warn("%s:%s could not be counted to its end: at least %s in %d entries; whether they fit is not sure",
			host, shown, size(in.found.Bytes), in.found.Entries)
	}
	in.live(f)
}

func (in *inspection) target(i int) {
	host, dir := in.t.Targets[i].Host, in.p.dirs[i]
	in.overlap(i)
	if f, ok := in.facts(host, askDir(i), "target directory", dir); ok {
		in.directory(host, dir, f)
	}
	if f, ok := in.facts(host, askEntry(i), "target", in.p.entry(i)); ok && f.Exists {
		in.refuse(sdk.KindExists, host, "move it away or name another directory; nothing is ever overwritten",
			"%s is there already (%s)", in.p.entry(i).Display(), f.Type)
	}
}

// directory judges a target directory and the room in it.
func (in *inspection) directory(host string, dir sdk.Raw, f sdk.PathFacts) {
	shown := dir.Display()
	switch {
	case !f.Exists:
		in.refuse(sdk.KindNotFound, host, "make it first: mkdir -p", "the target directory %s does not exist", shown)
		return
	case f.Type == sdk.FileSymlink:
		in.refuse(sdk.KindUnsupported, host, "name the directory that it points to", "the target %s is a symbolic link", shown)
		return
	case f.Type != sdk.FileDirectory:
		in.refuse(sdk.KindUnsupported, host, "name the directory that the copy is put into", "the target %s is a %s, not a directory", shown, f.Type)
		return
	case !f.Writable:
		in.refuse(sdk.KindPermission, host, "run as a user who may, for example with -o ssh.sudo=true", "the target directory %s cannot be written to", shown)
	}
	if in.found.Bytes < 0 {
		return // the source is refused already
	}
	need := in.found.Bytes + in.found.Entries*blockSize + reserve
	if need > f.FreeBytes {
		in.refuse(sdk.KindNoSpace, host, fmt.Sprintf("free at least %s there", size(need-f.FreeBytes)),
			"not enough space in %s: %s%s needed, %s free", shown, in.atLeast(), size(need), size(f.FreeBytes))
	}
	if inodes := in.found.Entries + spareInodes; f.FreeInodes >= 0 && inodes > f.FreeInodes {
		in.refuse(sdk.KindNoSpace, host, "remove files there or name another file system",
			"not enough inodes in %s: %s%d needed, %d free", shown, in.atLeast(), inodes, f.FreeInodes)
	}
}

func (in *inspection) atLeast() string {
	if in.found.AtLeast {
		return "at least "
	}
	return ""
}

// overlap refuses a copy of something onto or into itself, and two copies in
// one place. Hosts are compared by name: two names of one host are the
// core's to know.
func (in *inspection) overlap(i int) {
	host, dir := in.t.Targets[i].Host, in.p.dirs[i]
	if host == in.t.Source.Host {
		switch {
		case in.p.entry(i) == in.p.source:
			in.refuse(sdk.KindConfig, host, "name another directory", "source and target are the same: %s", in.p.source.Display())
		case dir == in.p.source || strings.HasPrefix(string(dir), string(in.p.source)+"/"):
			in.refuse(sdk.KindConfig, host, "name a directory outside of it", "the target directory %s is inside the source %s", dir.Display(), in.p.source.Display())
		}
	}
	for j := range i {
		if in.t.Targets[j].Host == host && in.p.dirs[j] == dir {
			in.refuse(sdk.KindConfig, host, "name each target once", "the target %s is named twice", dir.Display())
			return
		}
	}
}

// size returns a number of bytes in words, to three digits.
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d bytes", n)
	}
	f, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if f /= 1000; f < 999.5 {
			break
		}
	}
	switch {
	case f < 9.995:
		return fmt.Sprintf("%.2f %s", f, unit)
	case f < 99.95:
		return fmt.Sprintf("%.1f %s", f, unit)
	}
	return fmt.Sprintf("%.0f %s", f, unit)
}
