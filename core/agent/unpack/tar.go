package unpack

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// tarDirMode is the mode of directories of which an archive does not tell.
const tarDirMode = 0o755

// Prefixes of PAX records.
const (
	paxXattr  = "SCHILY.xattr."
	paxACL    = "SCHILY.acl."
	paxSparse = "GNU.sparse."
)

// Tar unpacks a tar: ustar, pax or GNU, sparse files among it, plain or
// compressed by gzip or zstd, whatever its name was. It succeeds only if the
// compressed stream is whole, the archive has its end marks, nothing follows
// them, and the proof is in it. When it fails, r is closed before it returns,
// so a Read that waits must end by that.
func (u *Unpacker) Tar(ctx context.Context, r io.ReadCloser) (err error) {
	content, stop, err := decompress(bufio.NewReaderSize(r, bufferLen))
	if err != nil {
		r.Close()
		return err
	}
	defer stop()
	in := newAhead(content)
	defer in.close()
	defer func() {
		if err != nil {
			r.Close() // a decompressor may wait for more
		}
	}()
	t := &tarball{u: u, marks: &endMarks{in: bufio.NewReaderSize(in, bufferLen)}}
	t.in = tar.NewReader(t.marks)
	if err := t.members(ctx); err != nil {
		return err
	}
	if err := zeros(t.marks, "the archive's end"); err != io.EOF {
		return err
	}
	return u.proof.check()
}

// endMarks counts the blocks of zeros that the tar reader has read last, two of
// which end an archive: it reports an archive that was cut between two members
// by the same io.EOF.
type endMarks struct {
	in    io.Reader
	zeros int
}

const blockLen = 512

// Read gives a whole block where one is asked for: that is how headers are
// read.
func (m *endMarks) Read(p []byte) (int, error) {
	if len(p) != blockLen {
		m.zeros = 0
		return m.in.Read(p)
	}
	n, err := io.ReadFull(m.in, p)
	switch {
	case err == io.ErrUnexpectedEOF:
		return n, err
	case n == blockLen && zero(p):
		m.zeros++
	case n > 0:
		m.zeros = 0
	}
	return n, err
}

// tarball is a tar that is being unpacked.
type tarball struct {
	u     *Unpacker
	in    *tar.Reader
	marks *endMarks
	top   string // the one directory that holds everything, once it is known
	first string // the first member, for messages
}

// members unpacks all.
func (t *tarball) members(ctx context.Context) error {
	for {
		t.marks.zeros = 0
		h, err := t.in.Next()
		switch {
		case err == io.EOF && t.marks.zeros < 2:
			return damaged("the archive has no end mark: it was cut")
		case err == io.EOF && t.first == "":
			return damaged("the archive holds nothing")
		case err == io.EOF:
			return nil
		case err != nil:
			return tarError(err)
		}
		if err := t.member(ctx, h); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// tarError says what an error of reading means.
func tarError(err error) error {
	var typed *sdk.Error
	switch {
	case errors.As(err, &typed):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return damaged("the archive ends within a member: it was cut")
	case errors.Is(err, tar.ErrHeader):
		return damaged("what arrived is no tar, or a member's header is damaged")
	}
	return damaged("the archive cannot be read: %v", err)
}

// member unpacks one.
func (t *tarball) member(ctx context.Context, h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil // remarks on all that follows, as git archive makes them
	}
	if t.first == "" {
		t.first = h.Name
	}
	name, err := t.name(h.Name, h.Typeflag == tar.TypeDir)
	if err != nil || name == "" {
		return err
	}
	e, err := t.entry(h, name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return t.file(ctx, h, e)
	case tar.TypeLink:
		return t.link(h, e)
	case tar.TypeSymlink:
		if why := outside(name, h.Linkname); why != "" && !t.u.opts.OutsideLinks {
			return refused(sdk.Raw(h.Name), "its target %s %s", sdk.Raw(h.Linkname).Display(), why)
		}
	}
	if err := t.u.make(&e, tarDirMode); err != nil {
		return err
	}
	return t.u.ledger.add(&written{entry: e})
}

// name is where a member goes; "" is nowhere, since it is the directory itself.
func (t *tarball) name(member string, isDir bool) (string, error) {
	name, why := clean(member)
	if why != "" {
		return "", refused(sdk.Raw(member), "%s", why)
	}
	if !t.u.opts.Strip || name == "" {
		return name, nil
	}
	top, rest, below := strings.Cut(name, "/")
	switch {
	case t.top == "" && !below && !isDir, t.top != "" && top != t.top:
		return "", &sdk.Error{Kind: sdk.KindUnsupported,
			Message: "the archive does not hold a single directory: " + sdk.Raw(t.first).Display() + " and " + sdk.Raw(member).Display() + " stand at its top",
			Hint:    "make it of one directory, or have nothing stripped"}
	case t.top == "":
		t.top = top
	case !below && !isDir:
		return "", refused(sdk.Raw(member), "it has the name of the directory that holds everything")
	}
	return rest, nil
}

// entry translates a header.
func (t *tarball) entry(h *tar.Header, name string) (manifest.Entry, error) {
	e := manifest.Entry{Path: sdk.Raw(name), Mode: uint32(h.Mode) & 0o7777,
		MTimeSec: h.ModTime.Unix(), MTimeNsec: uint32(h.ModTime.Nanosecond())}
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return e, refused(sdk.Raw(h.Name), "its owner or group, %d and %d, cannot be", h.Uid, h.Gid)
	}
	e.UID, e.GID = uint32(h.Uid), uint32(h.Gid)
	if len(h.Uname) <= manifest.MaxOwnerLen && len(h.Gname) <= manifest.MaxOwnerLen {
		e.Owner, e.Group = h.Uname, h.Gname
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
		e.Type = sdk.FileRegular
	case tar.TypeDir:
		e.Type = sdk.FileDirectory
	case tar.TypeSymlink:
		e.Type, e.Link = sdk.FileSymlink, sdk.Raw(h.Linkname)
	case tar.TypeFifo:
		e.Type = sdk.FileFifo
	case tar.TypeChar, tar.TypeBlock:
		return e, refused(sdk.Raw(h.Name), "it is a device")
	default:
		return e, refused(sdk.Raw(h.Name), "its type %q is not known", h.Typeflag)
	}
	t.xattrs(h, &e)
	if err := e.Validate(); err != nil {
		return e, refused(sdk.Raw(h.Name), "%v", err)
	}
	return e, nil
}

// xattrs takes over the extended attributes that pax records hold.
func (t *tarball) xattrs(h *tar.Header, e *manifest.Entry) {
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, paxXattr); ok {
			e.Xattrs = append(e.Xattrs, manifest.Xattr{Name: name, Value: value})
		} else if strings.HasPrefix(key, paxACL) {
			t.u.note("access control lists in an archive are not read", e)
		}
	}
	slices.SortFunc(e.Xattrs, func(a, b manifest.Xattr) int { return strings.Compare(a.Name, b.Name) })
}

// isSparse reports whether a file has holes.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, paxSparse) {
			return true
		}
	}
	return false
}

func (t *tarball) file(ctx context.Context, h *tar.Header, e manifest.Entry) error {
	holes := isSparse(h)
	if err := t.u.room(sdk.Raw(h.Name), h.Size, holes); err != nil {
		return err
	}
	o, err := t.u.open(e, tarDirMode)
	if err != nil {
		return err
	}
	defer o.abandon()
	o.holes = holes
	if err := t.u.copyContent(ctx, o, &memberContent{t.in}); err != nil {
		return err
	}
	return o.end()
}

// memberContent tells errors of reading from those of writing.
type memberContent struct{ in *tar.Reader }

func (m *memberContent) Read(p []byte) (int, error) {
	n, err := m.in.Read(p)
	if err != nil && err != io.EOF {
		err = tarError(err)
	}
	return n, err
}

// link makes a further name of a file that was unpacked before.
func (t *tarball) link(h *tar.Header, e manifest.Entry) error {
	to, err := t.name(h.Linkname, false)
	if err != nil {
		return err
	}
	first := manifest.Entry{Path: sdk.Raw(to), Type: sdk.FileRegular, Mode: e.Mode}
	if to == "" {
		return refused(sdk.Raw(h.Name), "it is a hard link of a directory")
	}
	f, err := t.u.disk.OpenRead(&first)
	if err != nil {
		return refused(sdk.Raw(h.Name), "it is a hard link of %s, which is no file that the archive held before", sdk.Raw(h.Linkname).Display())
	}
	f.Close()
	err = t.u.disk.LinkNew(&e, &first)
	if errors.Is(err, sdk.ErrNotFound) {
		if err = t.u.parents(&e, tarDirMode); err == nil {
			err = t.u.disk.LinkNew(&e, &first)
		}
	}
	if err != nil {
		return t.u.explain(e.Path, err)
	}
	t.u.files.Add(1)
	return nil
}

// outside says why a symbolic link in an archive leads out of it; empty if it
// does not, as far as its text tells.
func outside(name, target string) string {
	if strings.HasPrefix(target, "/") {
		return "is absolute: it leads out of the directory"
	}
	if at := path.Join(path.Dir(name), target); at == ".." || strings.HasPrefix(at, "../") {
		return "leads out of the directory"
	}
	return ""
}
