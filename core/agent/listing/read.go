package listing

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// maxLine bounds a line: four bytes for one that is escaped, of the largest
// entry there is.
const maxLine = 4*manifest.MaxEntryLen + 64<<10

// columnsOf is the number of fields that every entry has.
const columnsOf = 10

// Read reads a listing up to the end of r and calls fn for each entry, in the
// order of the lines. It stops at fn's first error. What it returns without
// an error is whole and as it was written: every line was understood, and the
// count and the root digest of the header are those of the entries. fn is
// called before that is known.
func Read(r io.Reader, fn func(e manifest.Entry, d manifest.Digest) error) (Header, error) {
	in := &lines{r: bufio.NewReaderSize(r, 256<<10)}
	h, err := in.header()
	if err != nil {
		return h, in.at(err)
	}
	root := manifest.NewRoot(h.Rule)
	for n := uint64(0); ; n++ {
		line, err := in.next()
		if errors.Is(err, io.EOF) {
			if n != h.Entries {
				return h, fmt.Errorf("it has %d entries instead of %d: it was cut short or changed", n, h.Entries)
			}
			break
		}
		if err != nil {
			return h, in.at(err)
		}
		e, d, err := parseLine(line)
		if err == nil {
			err = root.Add(&e, &d)
		}
		if err != nil {
			return h, in.at(err)
		}
		if err := fn(e, d); err != nil {
			return h, err
		}
	}
	if root.Sum() != h.Root {
		return h, errors.New("its root digest is not that of its entries: it was changed after it was written")
	}
	return h, nil
}

// lines reads lines and counts them.
type lines struct {
	r *bufio.Reader
	n int
}

// at says in which line an error is.
func (l *lines) at(err error) error { return fmt.Errorf("line %d: %w", l.n, err) }

// next returns a line without its end; io.EOF after the last.
func (l *lines) next() (string, error) {
	l.n++
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(long) > maxLine {
				return "", fmt.Errorf("longer than %d bytes", maxLine)
			}
			line, err = l.r.ReadSlice('\n')
			long = append(long, line...)
		}
		line = long
	}
	switch {
	case errors.Is(err, io.EOF) && len(line) > 0:
		return "", errors.New("it ends without a line's end")
	case err != nil:
		return "", err
	}
	return string(line[:len(line)-1]), nil
}

// header reads the lines before the entries.
func (l *lines) header() (Header, error) {
	var h Header
	line, err := l.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	if line != firstLine {
		return h, fmt.Errorf("not a manifest of version 1: it does not begin with %q", firstLine)
	}
	for _, f := range []struct {
		name string
		take func(string) error
	}{
		{"digest", func(s string) error { h.Rule = s; return nil }},
		{"root", func(s string) error { return decodeSum(&h.Root, s) }},
		{"entries", func(s string) (err error) { h.Entries, err = strconv.ParseUint(s, 10, 32); return }},
		{"transfer", func(s string) (err error) { h.Transfer, err = unescape(s); return }},
		{"source", func(s string) (err error) { h.Source, err = unescape(s); return }},
		{"time", func(s string) (err error) { h.Time, err = time.Parse(time.RFC3339, s); return }},
	} {
		if line, err = l.next(); err != nil {
			return h, err
		}
		text, err := trimmed(line, "# "+f.name+": ")
		if err == nil {
			err = f.take(text)
		}
		if err != nil {
			return h, err
		}
	}
	if h.Rule != manifest.RuleBLAKE3 && h.Rule != manifest.RuleNone {
		return h, fmt.Errorf("unknown digest rule %.40q", h.Rule)
	}
	if line, err = l.next(); err == nil && line != columns {
		err = errors.New("the names of the columns are missing")
	}
	return h, err
}

func decodeSum(sum *[32]byte, s string) error {
	if len(s) != 2*len(sum) {
		return fmt.Errorf("no digest: %.80q", s)
	}
	_, err := hex.Decode(sum[:], []byte(s))
	return err
}

// parseLine reads the line of an entry.
func parseLine(line string) (e manifest.Entry, d manifest.Digest, err error) {
	f := strings.Split(line, "\t")
	if len(f) < columnsOf {
		return e, d, fmt.Errorf("%d fields instead of %d", len(f), columnsOf)
	}
	for t, letter := range typeLetters {
		if letter == f[0] {
			e.Type = t
		}
	}
	p := parser{}
	e.Mode = uint32(p.number(f[1], 8, 12))
	if e.Type == sdk.FileRegular {
		e.Size = int64(p.number(f[2], 10, 63))
	} else if f[2] != "-" {
		p.fail(fmt.Errorf("a size without a file: %.40q", f[2]))
	}
	p.time(&e, f[3])
	e.UID, e.GID = uint32(p.number(f[4], 10, 32)), uint32(p.number(f[5], 10, 32))
	e.Owner, e.Group = p.name(f[6]), p.name(f[7])
	e.Path = sdk.Raw(p.text(f[9]))
	for _, more := range f[columnsOf:] {
		p.more(&e, more)
	}
	if f[8] != "-" {
		d = manifest.Digest{Size: e.Size, State: manifest.DigestOK}
		p.fail(decodeSum(&d.Sum, f[8]))
		if e.Type != sdk.FileRegular || e.HardLink != 0 {
			p.fail(errors.New("a digest without content"))
		}
	}
	if p.err != nil {
		return e, d, p.err
	}
	return e, d, e.Validate()
}

// parser keeps the first error.
type parser struct{ err error }

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) number(s string, base, bits int) uint64 {
	v, err := strconv.ParseUint(s, base, bits)
	p.fail(err)
	return v
}

func (p *parser) text(s string) string {
	v, err := unescape(s)
	p.fail(err)
	return v
}

// name reads an owner or a group.
func (p *parser) name(s string) string {
	if s == "-" {
		return ""
	}
	return p.text(s)
}

// time reads seconds, a dot, and the nanoseconds to be added to them.
func (p *parser) time(e *manifest.Entry, s string) {
	sec, nsec, _ := strings.Cut(s, ".")
	v, err := strconv.ParseInt(sec, 10, 64)
	p.fail(err)
	if len(nsec) != 9 {
		p.fail(fmt.Errorf("no time to the nanosecond: %.40q", s))
	}
	e.MTimeSec, e.MTimeNsec = v, uint32(p.number(nsec, 10, 32))
}

// more reads a field that few entries have.
func (p *parser) more(e *manifest.Entry, field string) {
	name, value, _ := strings.Cut(field, "=")
	var err error
	switch name {
	case "link":
		e.Link = sdk.Raw(p.text(value))
	case "hardlink":
		e.HardLink = p.number(value, 10, 32)
	case "rdev":
		major, minor, _ := strings.Cut(value, ":")
		e.Rdev, err = rdev(major, minor)
	case "xattr":
		key, value, _ := strings.Cut(value, "=")
		e.Xattrs = append(e.Xattrs, manifest.Xattr{Name: p.text(key), Value: p.text(value)})
	case "aclname":
		parts := strings.SplitN(value, ":", 3)
		if len(parts) < 3 || parts[0] != "user" && parts[0] != "group" {
			p.fail(fmt.Errorf("no name in an ACL: %.80q", value))
			return
		}
		e.ACLNames = append(e.ACLNames, manifest.ACLName{Group: parts[0] == "group", ID: uint32(p.number(parts[1], 10, 32)), Name: p.text(parts[2])})
	case "extra":
		e.Extra, err = hex.DecodeString(value)
	default:
		err = fmt.Errorf("unknown field %.40q", name)
	}
	p.fail(err)
}
