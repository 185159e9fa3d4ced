package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// verify proves the tree: to the disk, back from the disk (if asked for), the
// root over what is there, then the attributes and a look at them.
func (s *treeSink) verify(ctx context.Context) ([]suspect, error) {
	if err := s.disk.CopyApart(ctx, s.spool); err != nil {
		return nil, err
	}
	if err := s.sync(); err != nil {
		return nil, err
	}
	s.t.job.reached(pointSynced, s)
	level := s.t.chain.plan.Settings.Verify
	if level == control.VerifyReadBack && !s.files.allProven(s.disk) || level == control.VerifyReceived && s.kept.some() {
		if err := s.readBack(ctx); err != nil {
			return nil, err
		}
	}
	if found := s.files.found(); len(found) > 0 {
		return found, nil
	}
	return nil, s.conclude(ctx)
}

// conclude proves the whole, and gives all entries their attributes.
func (s *treeSink) conclude(ctx context.Context) error {
	root, err := s.spool.Root(ctx)
	if err != nil {
		return err
	}
	if root != s.end.Root {
		return &sdk.Error{Kind: sdk.KindIntegrity, Host: s.t.member.Host,
			Message: "the digest over all that was written is not the source's", Hint: "run the transfer again; if it happens again, report it"}
	}
	if err := s.disk.Finish(ctx, s.spool); err != nil {
		return err
	}
	warnings, err := s.disk.Check(ctx, s.spool)
	if err != nil {
		return err
	}
	s.t.meter.warn(warnings...)
	s.t.meter.warn(s.disk.Warnings()...)
	s.t.meter.set(func(m *meter) { m.root = digest.Sum(root).String() })
	if err := s.spool.Sync(); err != nil {
		return err
	}
	return s.sync()
}

// sync brings all that was written to the disk.
func (s *treeSink) sync() error {
	s.t.meter.startDisk()
	defer s.t.meter.stopDisk()
	return s.staging.Sync()
}

// check is one file that is read back, in runs of pieces by several workers.
type check struct {
	number uint64
	entry  manifest.Entry
	want   manifest.Digest
	f      *uncached

	mu   sync.Mutex
	tree *digest.Tree
	left uint64
	bad  bool // it is too short
}

// piecesAtOnce is how many pieces of a large file one worker reads back in
// one go.
const piecesAtOnce = 8

// span is a worker's part of a check.
type span struct {
	c        *check
	from, to uint64 // pieces
}

// readBack reads every file again that was not read back on the way, from the
// disk where the file system can be asked past its cache, and compares it with
// what the source read.
func (s *treeSink) readBack(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan span, 16)
	for range workers() {
		group.Go(func() error {
			// All is reading but the digests of whole pieces.
			s.t.meter.startDisk()
			defer s.t.meter.stopDisk()
			buf := alignedMemory(digest.PieceSize)
			for sp := range work {
				if err := s.checkSpan(sp, buf); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(work)
		return s.spool.Each(ctx, func(n uint64, e manifest.Entry, d manifest.Digest) error {
			if e.Type != sdk.FileRegular || e.HardLink != 0 && !s.disk.Apart() {
				return nil
			}
			if e.HardLink != 0 {
				var err error
				if d, err = s.spool.Digest(e.HardLink - 1); err != nil {
					return err
				}
			}
			if d.State != manifest.DigestOK || d.Size != e.Size {
				return s.t.broken("the source told no digest of " + e.Path.Display())
			}
			if s.files.isProven(n) || s.t.chain.plan.Settings.Verify == control.VerifyReceived && !s.kept.has(n) {
				return nil
			}
			return s.spread(ctx, &check{number: n, entry: e, want: d, tree: digest.NewTree(), left: digest.Pieces(e.Size)}, work)
		})
	})
	return group.Wait()
}

// spread hands a file to the workers.
func (s *treeSink) spread(ctx context.Context, c *check, work chan<- span) error {
	pieces := digest.Pieces(c.entry.Size)
	if pieces > piecesAtOnce {
		f, err := openUncached(s.disk, &c.entry)
		if err != nil {
			return err
		}
		c.f = f
	}
	for from := uint64(0); from == 0 || from < pieces; from += piecesAtOnce {
		select {
		case work <- span{c, from, min(from+piecesAtOnce, pieces)}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (s *treeSink) checkSpan(sp span, buf []byte) error {
	c := sp.c
	f := c.f
	if f == nil && sp.to > 0 {
		var err error
		if f, err = openUncached(s.disk, &c.entry); err != nil {
			return err
		}
		defer f.close()
	}
	for p := sp.from; p < sp.to; p++ {
		off := int64(p) * digest.PieceSize
		b := buf[:min(digest.PieceSize, c.entry.Size-off)]
		err := f.read(b, off)
		short := errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !short {
			return cannotReadBack(c.entry.Path, err)
		}
		node := s.digest(p, b)
		s.t.meter.checked.Add(int64(len(b)))
		c.mu.Lock()
		c.bad = c.bad || short
		c.tree.Add(p, node, len(b))
		c.left--
		c.mu.Unlock()
	}
	return s.concluded(c)
}

// digest digests a piece, whose time is measured if it is whole.
func (s *treeSink) digest(index uint64, b []byte) digest.Node {
	if len(b) == digest.PieceSize {
		s.t.meter.disk.Stop()
		defer s.t.meter.disk.Start()
	}
	return digest.Piece(index, b)
}

// concluded compares a file whose last piece was read, and books the digest
// that the target found itself.
func (s *treeSink) concluded(c *check) error {
	c.mu.Lock()
	left := c.left
	if left == 0 {
		c.left-- // once
	}
	c.mu.Unlock()
	if left != 0 {
		return nil
	}
	if c.f != nil {
		c.f.close()
	}
	sum, err := c.tree.Sum(c.entry.Size)
	if err != nil {
		return err
	}
	same := !c.bad && sum == c.want.Sum
	if err := s.files.concluded(c.number, &c.entry, same); err != nil || !same {
		return err
	}
	return s.spool.SetDigest(c.number, manifest.Digest{Size: c.entry.Size, Sum: sum, State: manifest.DigestOK})
}

// differs says that a file is not what the source read.
func differs(path sdk.Raw, otherwise string) error {
	name := otherwise
	if path != "" {
		name = path.Display()
	}
	return &sdk.Error{Kind: sdk.KindIntegrity, Message: name + " is not what the source read: the digests differ",
		Hint: "check the memory and the disk of this host, then run the transfer again"}
}

// cannotWrite turns a write's error into one that tells what to do.
func cannotWrite(path sdk.Raw, err error) error {
	e := &sdk.Error{Kind: sdk.KindInternal, Message: "cannot write " + path.Display() + ": " + err.Error()}
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		e.Kind, e.Hint = sdk.KindNoSpace, "make room on the target's file system and run the transfer again"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		e.Kind, e.Hint = sdk.KindPermission, "see who may write there"
	}
	return e
}

// cacheOnly reports whether a file system lives in memory.
func cacheOnly(dir *os.File) (bool, string) {
	var st unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return false, ""
	}
	switch int64(st.Type) {
	case unix.TMPFS_MAGIC:
		return true, "tmpfs"
	case unix.RAMFS_MAGIC:
		return true, "ramfs"
	}
	return false, fmt.Sprintf("%x", st.Type)
}
