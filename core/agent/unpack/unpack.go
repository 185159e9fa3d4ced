// Package unpack makes files of an archive that arrives as a stream: tar,
// compressed or not, and xbstream, the format of mariadb-backup. It says what
// a member is, refuses those that lead out of the directory, and proves that
// the archive came to its own end; how an entry becomes a file is package
// tree's work.
//
// Nothing that it writes is to be believed before its call has returned nil:
// the caller unpacks into a staging directory. Memory is bounded whatever the
// archive holds or claims.
package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// bufferLen is the unit in which content is read and written.
const bufferLen = 256 << 10

// Options say how an archive is unpacked.
type Options struct {
	Sink tree.SinkOptions
	// Digests says that the BLAKE3 digest of each file is kept, as it is
	// written.
	Digests bool
	// Strip drops the one directory that holds everything in a tar; an archive
	// that is not like that is refused.
	Strip bool
	// OutsideLinks allows symbolic links in a tar that lead out of the
	// directory. Nothing is ever written through a link.
	OutsideLinks bool
	// Proof are the names, at the top, of the file that proves an archive
	// complete: one of them must be in it. In xbstream its end must be the last
	// chunk. None: nothing is asked for.
	Proof []string
	// ProofLine, if set, must match a line of that file, of which maxProof
	// bytes are looked at.
	ProofLine *regexp.Regexp
}

// maxProof bounds what of a file is looked at for Options.ProofLine.
const maxProof = 64 << 10

// Unpacker unpacks one archive. Tar or Xbstream is called once, then Each and
// Finish; the counters may be read meanwhile, by other goroutines.
type Unpacker struct {
	opts   Options
	disk   *tree.Sink
	dir    *os.File
	ledger *ledger
	proof  *proof
	notes  map[string]control.Warning
	files  atomic.Int64
	bytes  atomic.Int64
	buf    []byte
}

// New unpacks below dir, which stays the caller's; what has to be remembered
// of many files goes into a file in the directory meta. The caller closes the
// Unpacker.
func New(dir *os.File, meta string, o Options) (*Unpacker, error) {
	disk, err := tree.NewSink(dir, o.Sink)
	if err != nil {
		return nil, err
	}
	l, err := newLedger(meta)
	if err != nil {
		disk.Close()
		return nil, err
	}
	return &Unpacker{opts: o, disk: disk, dir: dir, ledger: l, notes: make(map[string]control.Warning),
		proof: newProof(o), buf: make([]byte, bufferLen)}, nil
}

// Disk is where the files are, for reading them back.
func (u *Unpacker) Disk() *tree.Sink { return u.disk }

// Files returns how many regular files are whole by now.
func (u *Unpacker) Files() int64 { return u.files.Load() }

// Bytes returns how many bytes of content were written by now.
func (u *Unpacker) Bytes() int64 { return u.bytes.Load() }

// Each calls fn for every regular file with its digest (zero without
// Options.Digests), in the order in which they were completed. It stops at
// fn's first error, or when ctx ends.
func (u *Unpacker) Each(ctx context.Context, fn func(e *manifest.Entry, sum [32]byte) error) error {
	return u.ledger.each(ctx, func(r *written) error {
		if r.entry.Type != sdk.FileRegular {
			return nil
		}
		return fn(&r.entry, r.sum)
	})
}

// Warnings returns what could not be kept of owners, modes, attributes and
// times.
func (u *Unpacker) Warnings() []control.Warning {
	list := u.disk.Warnings()
	for _, w := range u.notes {
		list = append(list, w)
	}
	return list
}

// note counts something that is not kept.
func (u *Unpacker) note(what string, e *manifest.Entry) {
	w := u.notes[what]
	if w.Count++; w.Count == 1 {
		w.What, w.Example = what, e.Path
	}
	u.notes[what] = w
}

// Close gives everything up that was opened; what was written stays.
func (u *Unpacker) Close() error { return errors.Join(u.disk.Close(), u.ledger.close()) }

// damaged says that an archive is not what its maker wrote, or was not written
// to its end.
func damaged(format string, args ...any) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindDamaged, Message: fmt.Sprintf(format, args...),
		Hint: "the source itself is broken or incomplete: make it again, nothing of it was published"}
}

// refused says that a member is none that is unpacked.
func refused(member sdk.Raw, format string, args ...any) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("the archive's member %s is refused: %s", member.Display(), fmt.Sprintf(format, args...)),
		Hint: "look at what made the archive; nothing of it was published"}
}

// clean returns a member's name as a path below the directory, or why it is
// none. "" is the directory itself.
func clean(name string) (string, string) {
	if strings.HasPrefix(name, "/") {
		return "", "its name is absolute"
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", `its name leads upwards by ".."`
		default:
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "", ""
	}
	p := strings.Join(parts, "/")
	if err := manifest.ValidatePath(sdk.Raw(p)); err != nil {
		return "", err.Error()
	}
	if strings.HasPrefix(parts[0], ".transferpy-") {
		return "", "such names are kept for staging directories"
	}
	return p, ""
}

// create makes a regular file that is not there yet, and the directories on
// the way to it with a mode of their own.
func (u *Unpacker) create(e *manifest.Entry, dirMode uint32) (*os.File, error) {
	f, err := u.disk.CreateNew(e)
	if errors.Is(err, sdk.ErrNotFound) {
		if err = u.parents(e, dirMode); err == nil {
			f, err = u.disk.CreateNew(e)
		}
	}
	return f, u.explain(e.Path, err)
}

// make makes what is no regular file, likewise.
func (u *Unpacker) make(e *manifest.Entry, dirMode uint32) error {
	err := u.disk.Create(e)
	if errors.Is(err, sdk.ErrNotFound) {
		if err = u.parents(e, dirMode); err == nil {
			err = u.disk.Create(e)
		}
	}
	return u.explain(e.Path, err)
}

// parents makes the directories on the way to an entry, of which the archive
// has not told.
func (u *Unpacker) parents(e *manifest.Entry, mode uint32) error {
	path := string(e.Path)
	for at := 0; ; at++ {
		i := strings.IndexByte(path[at:], '/')
		if i < 0 {
			return nil
		}
		at += i
		d := manifest.Entry{Path: sdk.Raw(path[:at]), Type: sdk.FileDirectory, Mode: mode,
			UID: e.UID, GID: e.GID, Owner: e.Owner, Group: e.Group, MTimeSec: e.MTimeSec, MTimeNsec: e.MTimeNsec}
		made, err := u.disk.Mkdir(&d)
		if err == nil && made {
			err = u.ledger.add(&written{entry: d})
		}
		if err != nil {
			return err
		}
	}
}

// explain turns what the disk says about a member into what the archive did.
func (u *Unpacker) explain(member sdk.Raw, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sdk.ErrExists):
		return refused(member, "the archive holds it twice, or something else by that name")
	case errors.Is(err, sdk.ErrChanged):
		return refused(member, "it leads through a link of the archive, or through a file")
	}
	return err
}

// room refuses content for which there is no room before any of it is
// written. holes says that not all of size needs room: then it must fit into
// the file system as a whole, beyond which no honest file is.
func (u *Unpacker) room(member sdk.Raw, size int64, holes bool) error {
	const worthAsking = 1 << 20
	var st unix.Statfs_t
	if size < worthAsking || unix.Fstatfs(int(u.dir.Fd()), &st) != nil {
		return nil
	}
	limit := int64(st.Bavail) * st.Bsize
	if holes {
		limit = int64(st.Blocks) * st.Bsize
	}
	if size <= limit {
		return nil
	}
	return &sdk.Error{Kind: sdk.KindNoSpace, Message: fmt.Sprintf("the archive's member %s has %d bytes; there is room for %d", member.Display(), size, limit),
		Hint: "make room on the target's file system and run the transfer again"}
}

// copyContent writes what in holds to out from its beginning, which sum and
// the proof see too. It returns how much that was.
func (u *Unpacker) copyContent(ctx context.Context, out *output, in io.Reader) error {
	for {
		n, err := in.Read(u.buf)
		if n > 0 {
			if werr := out.write(u.buf[:n]); werr != nil {
				return werr
			}
			u.bytes.Add(int64(n))
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}

func cannotWrite(e *manifest.Entry, err error) error {
	return diskerr.New("cannot write", e.Path, err)
}
