// Package listing is a manifest as a text file: one line for each entry,
// for people, scripts, and a check weeks later. docs/manifest-format.md
// describes it. What is written can be read back without a loss, so that the
// root digest in its header covers the file itself.
package listing

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Header is what a listing says of the whole.
type Header struct {
	Rule     string // digest rule: manifest.RuleBLAKE3 or manifest.RuleNone
	Root     [32]byte
	Entries  uint64
	Transfer string
	Source   string // HOST:PATH
	Time     time.Time
}

// firstLine names the format and its version.
const firstLine = "# transferpy manifest 1"

// columns is the last line of the header.
const columns = "# type\tmode\tsize\tmtime\tuid\tgid\towner\tgroup\tdigest\tpath"

// typeLetters are the types as `find -printf %y` has them.
var typeLetters = map[sdk.FileType]string{
	sdk.FileRegular: "f", sdk.FileDirectory: "d", sdk.FileSymlink: "l", sdk.FileFifo: "p",
	sdk.FileSocket: "s", sdk.FileCharDev: "c", sdk.FileBlockDev: "b",
}

// Writer writes a listing. Not safe for concurrent use.
type Writer struct {
	w      *bufio.Writer
	header Header
	root   *manifest.Root
	n      uint64
	line   []byte
}

// NewWriter writes the header. The caller knows it beforehand; Close checks
// that what was added is what it says.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	l := &Writer{w: bufio.NewWriterSize(w, 256<<10), header: h, root: manifest.NewRoot(h.Rule)}
	_, err := fmt.Fprintf(l.w, "%s\n# digest: %s\n# root: %s\n# entries: %d\n# transfer: %s\n# source: %s\n# time: %s\n%s\n",
		firstLine, h.Rule, hex.EncodeToString(h.Root[:]), h.Entries, escape(h.Transfer, 0), escape(h.Source, 0), h.Time.UTC().Format(time.RFC3339), columns)
	return l, err
}

// Add writes the next entry in walk order, and its digest.
func (l *Writer) Add(e manifest.Entry, d manifest.Digest) error {
	if l.n == l.header.Entries {
		return fmt.Errorf("manifest: more than the %d entries that were announced", l.n)
	}
	l.n++
	if e.Stream {
		return fmt.Errorf("manifest: entry %s is a stream and no file", e.Path.Display())
	}
	if known := d.State == manifest.DigestOK; known && d.Size != e.Size || !known && d != (manifest.Digest{}) {
		return fmt.Errorf("manifest: the digest of %s is not one of its %d bytes", e.Path.Display(), e.Size)
	}
	if err := l.root.Add(&e, &d); err != nil {
		return err
	}
	l.line = appendLine(l.line[:0], &e, &d)
	_, err := l.w.Write(l.line)
	return err
}

// Close writes what is left, and checks that all is there. It does not close
// the underlying writer.
func (l *Writer) Close() error {
	if l.n != l.header.Entries {
		return fmt.Errorf("manifest: %d entries instead of the %d that were announced", l.n, l.header.Entries)
	}
	if sum := l.root.Sum(); sum != l.header.Root {
		return fmt.Errorf("manifest: the digest over its entries is %x, and not that of the transfer, %x", sum, l.header.Root)
	}
	return l.w.Flush()
}

// appendLine appends the line of an entry.
func appendLine(b []byte, e *manifest.Entry, d *manifest.Digest) []byte {
	b = append(b, typeLetters[e.Type]...)
	b = fmt.Appendf(b, "\t%04o\t", e.Mode)
	if e.Type == sdk.FileRegular {
		b = strconv.AppendInt(b, e.Size, 10)
	} else {
		b = append(b, '-')
	}
	b = fmt.Appendf(b, "\t%d.%09d\t%d\t%d\t%s\t%s\t", e.MTimeSec, e.MTimeNsec, e.UID, e.GID, orDash(e.Owner), orDash(e.Group))
	if d.State == manifest.DigestOK {
		b = hex.AppendEncode(b, d.Sum[:])
	} else {
		b = append(b, '-')
	}
	b = append(append(b, '\t'), escape(string(e.Path), 0)...)
	return append(appendMore(b, e), '\n')
}

// appendMore appends the fields that few entries have, as NAME=VALUE.
func appendMore(b []byte, e *manifest.Entry) []byte {
	if e.Link != "" {
		b = append(append(b, "\tlink="...), escape(string(e.Link), 0)...)
	}
	if e.HardLink != 0 {
		b = fmt.Appendf(b, "\thardlink=%d", e.HardLink)
	}
	if e.Rdev != 0 {
		b = fmt.Appendf(b, "\trdev=%d:%d", unix.Major(e.Rdev), unix.Minor(e.Rdev))
	}
	for i := range e.Xattrs {
		b = fmt.Appendf(b, "\txattr=%s=%s", escape(e.Xattrs[i].Name, '='), escape(e.Xattrs[i].Value, 0))
	}
	for _, a := range e.ACLNames {
		kind := "user"
		if a.Group {
			kind = "group"
		}
		b = fmt.Appendf(b, "\taclname=%s:%d:%s", kind, a.ID, escape(a.Name, 0))
	}
	if len(e.Extra) > 0 {
		b = fmt.Appendf(b, "\textra=%x", e.Extra)
	}
	return b
}

// orDash is a name, or the dash that stands for none; a name that is a dash is
// escaped.
func orDash(s string) string {
	switch s {
	case "":
		return "-"
	case "-":
		return `\x2d`
	}
	return escape(s, 0)
}

// rdev is what a device's major and minor make.
func rdev(major, minor string) (uint64, error) {
	a, err := strconv.ParseUint(major, 10, 32)
	if err != nil {
		return 0, err
	}
	b, err := strconv.ParseUint(minor, 10, 32)
	return unix.Mkdev(uint32(a), uint32(b)), err
}

// trimmed cuts a prefix that must be there.
func trimmed(line, prefix string) (string, error) {
	rest, ok := strings.CutPrefix(line, prefix)
	if !ok {
		return "", fmt.Errorf("%.40q instead of %q", line, prefix)
	}
	return rest, nil
}
