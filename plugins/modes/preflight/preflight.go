// Package preflight is what modes have in common that put something into
// existing directories: it reads the answers about them and refuses what
// cannot be, each time with the host, the path and what to do.
package preflight

import (
	"fmt"
	"path"
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

// CleanPath returns the path without trailing and double slashes, or why it is
// not taken. ".." is refused rather than resolved: behind a symbolic link it
// means something else to the kernel than to a reader.
func CleanPath(p sdk.Raw) (sdk.Raw, string) {
	s := string(p)
	switch {
	case !strings.HasPrefix(s, "/"):
		return p, "is not an absolute path"
	case strings.IndexByte(s, 0) >= 0:
		return p, "holds a NUL byte"
	case len(s) > 4095:
		return p, "is longer than 4095 bytes"
	}
	for _, name := range strings.Split(s, "/") {
		switch {
		case name == "..":
			return p, `has ".." in it`
		case len(name) > 255:
			return p, "has a name longer than 255 bytes"
		}
	}
	return sdk.Raw(path.Clean(s)), ""
}

// Paths cleans the paths of a transfer whose ends are all paths; all that is
// wrong with them is in the one error, which ends in hint.
func Paths(t sdk.Transfer, hint string) (source sdk.Raw, dirs []sdk.Raw, err *sdk.Error) {
	var wrong []string
	check := func(what string, e sdk.Endpoint) sdk.Raw {
		clean, why := CleanPath(e.Path)
		if why != "" {
			wrong = append(wrong, fmt.Sprintf("%s %s:%s %s", what, e.Host, e.Path.Display(), why))
		}
		return clean
	}
	source = check("source", t.Source)
	for _, target := range t.Targets {
		dirs = append(dirs, check("target", target))
	}
	if len(wrong) > 0 {
		err = &sdk.Error{Kind: sdk.KindConfig, Message: strings.Join(wrong, "; "), Hint: hint}
	}
	return source, dirs, err
}

// Questions collects what hosts are asked. The zero value is ready.
type Questions struct{ all []sdk.HostQuestions }

// Of returns the questions of one host, to be added to at once.
func (q *Questions) Of(host string) *sdk.HostQuestions {
	for i := range q.all {
		if q.all[i].Host == host {
			return &q.all[i]
		}
	}
	q.all = append(q.all, sdk.HostQuestions{Host: host})
	return &q.all[len(q.all)-1]
}

// All returns them, in the order in which hosts were named first.
func (q *Questions) All() []sdk.HostQuestions { return q.all }

// Inspection collects what is wrong with one transfer, in Found.
type Inspection struct {
	Transfer sdk.Transfer
	Found    sdk.Findings // Bytes and Entries are -1 until they are set

	answers map[string]sdk.Answers
}

// New makes an Inspection of the answers to a transfer's questions.
func New(t sdk.Transfer, answers []sdk.Answers) *Inspection {
	in := &Inspection{Transfer: t, Found: sdk.Findings{Bytes: -1, Entries: -1}, answers: make(map[string]sdk.Answers, len(answers))}
	for _, a := range answers {
		in.answers[a.Host] = a
	}
	return in
}

// Refuse refuses the whole run.
func (in *Inspection) Refuse(kind sdk.ErrorKind, host, hint, format string, args ...any) {
	in.Found.Refusals = append(in.Found.Refusals, &sdk.Error{Kind: kind, Host: host, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// Warn says what the operator should know.
func (in *Inspection) Warn(format string, args ...any) {
	in.Found.Warnings = append(in.Found.Warnings, fmt.Sprintf(format, args...))
}

// Facts returns the answer about a path, or refuses for want of it.
func (in *Inspection) Facts(host, id, what string, path sdk.Raw) (sdk.PathFacts, bool) {
	f, ok := in.answers[host].Paths[id]
	if !ok {
		in.silent(host, what+" "+path.Display())
		return f, false
	}
	if f.Err != nil {
		e := *f.Err
		e.Host = host
		e.Message = fmt.Sprintf("cannot look at the %s %s: %s", what, path.Display(), f.Err.Message)
		in.Found.Refusals = append(in.Found.Refusals, &e)
		return f, false
	}
	return f, true
}

// Answer returns what a command has answered; false if it did not end well.
func (in *Inspection) Answer(host, id string) (sdk.Result, bool) {
	r, ok := in.answers[host].Commands[id]
	return r, ok && r.Err == nil && r.ExitCode == 0
}

func (in *Inspection) silent(host, about string) {
	in.Refuse(sdk.KindUnreachable, host, "check that the host answers: transferpy exec "+host+" -- true",
		"did not say anything about the %s", about)
}

// Readable judges a source that is to be a regular file or, where that is
// allowed, a directory. It reports false where there is nothing more to say
// about it.
func (in *Inspection) Readable(f sdk.PathFacts, path sdk.Raw, directories bool) bool {
	host, shown, want := in.Transfer.Source.Host, path.Display(), "a regular file"
	if directories {
		want += " or a directory"
	}
	switch {
	case !f.Exists:
		in.Refuse(sdk.KindNotFound, host, "check the path: ls -ld on that host", "the source %s does not exist", shown)
		return false
	case f.Type == sdk.FileSymlink:
		in.Refuse(sdk.KindUnsupported, host, "name what it points to", "the source %s is a symbolic link", shown)
		return false
	case f.Type != sdk.FileRegular && (f.Type != sdk.FileDirectory || !directories):
		in.Refuse(sdk.KindUnsupported, host, "name "+want, "the source %s is a %s, not %s", shown, f.Type, strings.TrimPrefix(want, "a regular "))
		return false
	case !f.Readable:
		in.Refuse(sdk.KindPermission, host, "run as a user who may, for example with -o ssh.sudo=true", "the source %s cannot be read", shown)
	}
	return true
}

// Directory judges a target directory, and the room in it for what Found says.
func (in *Inspection) Directory(host string, dir sdk.Raw, f sdk.PathFacts) {
	shown := dir.Display()
	switch {
	case !f.Exists:
		in.Refuse(sdk.KindNotFound, host, "make it first: mkdir -p", "the target directory %s does not exist", shown)
		return
	case f.Type == sdk.FileSymlink:
		in.Refuse(sdk.KindUnsupported, host, "name the directory that it points to", "the target %s is a symbolic link", shown)
		return
	case f.Type != sdk.FileDirectory:
		in.Refuse(sdk.KindUnsupported, host, "name the directory that the copy is put into", "the target %s is a %s, not a directory", shown, f.Type)
		return
	case !f.Writable:
		in.Refuse(sdk.KindPermission, host, "run as a user who may, for example with -o ssh.sudo=true", "the target directory %s cannot be written to", shown)
	}
	if in.Found.Bytes < 0 {
		return // the source is refused already, or nobody knows
	}
	entries := max(in.Found.Entries, 0)
	need := in.Found.Bytes + entries*blockSize + reserve
	if need > f.FreeBytes {
		in.Refuse(sdk.KindNoSpace, host, fmt.Sprintf("free at least %s there", Size(need-f.FreeBytes)),
			"not enough space in %s: %s%s needed, %s free", shown, in.atLeast(), Size(need), Size(f.FreeBytes))
	}
	if inodes := entries + spareInodes; f.FreeInodes >= 0 && inodes > f.FreeInodes {
		in.Refuse(sdk.KindNoSpace, host, "remove files there or name another file system",
			"not enough inodes in %s: %s%d needed, %d free", shown, in.atLeast(), inodes, f.FreeInodes)
	}
}

// Empty refuses a target directory that holds something. Its staging
// directory will be made in it.
func (in *Inspection) Empty(host string, dir sdk.Raw, f sdk.PathFacts) {
	if f.Exists && f.Type == sdk.FileDirectory && !f.Empty {
		in.Refuse(sdk.KindExists, host, "empty it or name another directory; nothing is ever overwritten", "the target directory %s is not empty", dir.Display())
	}
}

// Once refuses target i where an earlier one is the same directory. Hosts are
// compared by name: two names of one host are the core's to know.
func (in *Inspection) Once(i int, dirs []sdk.Raw) {
	host := in.Transfer.Targets[i].Host
	for j := range i {
		if in.Transfer.Targets[j].Host == host && dirs[j] == dirs[i] {
			in.Refuse(sdk.KindConfig, host, "name each target once", "the target %s is named twice", dirs[i].Display())
			return
		}
	}
}

func (in *Inspection) atLeast() string {
	if in.Found.AtLeast {
		return "at least "
	}
	return ""
}

// Size returns a number of bytes in words, to three digits.
func Size(n int64) string {
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
