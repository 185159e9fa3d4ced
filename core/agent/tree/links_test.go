package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree/treetest"
	"github.com/transferpy/transferpy/sdk"
)

func TestLinksMeet(t *testing.T) {
	l := newLinks()
	l.limit = 2
	st := func(dev, ino uint64, names int) *unix.Stat_t {
		st := &unix.Stat_t{Dev: dev, Ino: ino, Size: 3, Mode: unix.S_IFREG}
		for range names { // the field's type differs from one architecture to another
			st.Nlink++
		}
		return st
	}
	changed := st(1, 7, 2)
	changed.Ctim.Nsec = 1
	for i, step := range []struct {
		st        *unix.Stat_t
		first     uint64
		found, ok bool
	}{
		{st(1, 7, 3), 0, false, true},
		{st(2, 7, 2), 0, false, true}, // the same inode of another device
		{st(1, 8, 2), 0, false, false},
		{st(1, 7, 3), 0, true, true},
		{st(2, 7, 2), 1, true, true}, // the last of two: forgotten
		{st(1, 8, 2), 0, false, true},
		{changed, 0, false, true}, // another file, or not the same any more
		{st(1, 8, 2), 5, true, true},
		{changed, 6, true, true},
	} {
		first, found, ok := l.meet(step.st, uint64(i))
		if first != step.first || found != step.found || ok != step.ok {
			t.Errorf("step %d: %d, %v, %v", i, first, found, ok)
		}
	}
	if l.n != 0 || len(l.devs[1])+len(l.devs[2]) != 0 {
		t.Errorf("%d are remembered: %v", l.n, l.devs)
	}
	if _, found, ok := l.meet(st(1, 9, 2), 1<<32); found || ok {
		t.Error("a number that has no room is remembered")
	}
}

// counts are warnings by what they say.
func counts(all ...[]control.Warning) map[string]int64 {
	m := map[string]int64{}
	for _, list := range all {
		for _, w := range list {
			m[w.What] = w.Count
		}
	}
	return m
}

// spoolOf puts entries into a spool.
func spoolOf(t testing.TB, entries ...manifest.Entry) *manifest.Spool {
	t.Helper()
	spool, err := manifest.Create(t.TempDir(), manifest.Header{DigestRule: manifest.RuleNone})
	check(t, err)
	t.Cleanup(func() { _ = spool.Close() })
	for i := range entries {
		b, err := manifest.AppendEntry(nil, &entries[i])
		check(t, err)
		_, _, err = spool.Append(b)
		check(t, err)
	}
	return spool
}

// TestLinkBeforeContent: the first of the links may be written after them.
func TestLinkBeforeContent(t *testing.T) {
	dir := t.TempDir()
	sink := newSink(t, dir, SinkOptions{})
	defer sink.Close()
	me := manifest.Entry{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), Type: sdk.FileRegular, Size: 7, Mode: 0o640, MTimeSec: 5}
	first, second := me, me
	first.Path, second.Path, second.HardLink = "first", "second", 1
	spool := spoolOf(t, first, second)
	check(t, errors.Join(sink.Link(&second, &first), sink.Link(&second, &first)))
	w, err := sink.CreateWrite(&first)
	check(t, err)
	_, err = w.WriteString("content")
	check(t, errors.Join(err, w.Close()))
	ctx := context.Background()
	check(t, errors.Join(sink.CopyApart(ctx, spool), sink.Finish(ctx, spool)))
	warned, err := sink.Check(ctx, spool)
	check(t, err)
	if got, err := os.ReadFile(dir + "/second"); string(got) != "content" || len(warned) > 0 {
		t.Errorf("%q, %v, %+v", got, err, warned)
	}
	// A link that became a file of its own is found.
	check(t, errors.Join(os.Remove(dir+"/second"), os.WriteFile(dir+"/second", []byte("content"), 0o640)))
	if _, err := sink.Check(ctx, spool); !errors.Is(err, sdk.ErrIntegrity) {
		t.Errorf("a link that is none: %v", err)
	}
}

// TestTooManyLinks: names beyond what the file system allows for one file
// become names of another one, with the same content and attributes.
func TestTooManyLinks(t *testing.T) {
	at := treetest.Mount(t, "64M")
	const names, allowed = 65_010, 65_000 // ext4's
	entries := []manifest.Entry{{Path: "f", Type: sdk.FileRegular, Size: 1 << 20, Mode: 0o4711, UID: 7, GID: 8, MTimeSec: -1, MTimeNsec: 1,
		Xattrs: []manifest.Xattr{{Name: "user.x", Value: "y"}}}}
	for i := range names - 1 {
		e := entries[0]
		e.Path, e.HardLink, e.Xattrs = sdk.Raw(fmt.Sprint(i)), 1, nil
		entries = append(entries, e)
	}
	spool := spoolOf(t, entries...)
	sink := newSink(t, at, SinkOptions{Owner: "numeric"})
	defer sink.Close()
	w, err := sink.CreateWrite(&entries[0])
	check(t, err)
	_, err = w.WriteAt([]byte("content"), 8192)
	check(t, errors.Join(err, w.Truncate(1<<20), w.Close()))
	for i := range entries[1:] {
		check(t, sink.Link(&entries[1+i], &entries[0]))
	}
	ctx := context.Background()
	check(t, errors.Join(sink.CopyApart(ctx, spool), sink.Finish(ctx, spool)))
	warned, err := sink.Check(ctx, spool)
	check(t, err)
	if got := counts(sink.Warnings(), warned); len(got) != 1 || got[noteHardLinks] != 1 || !sink.Apart() {
		t.Errorf("%v", got)
	}
	var last unix.Stat_t
	path := filepath.Join(at, fmt.Sprint(names-2))
	check(t, unix.Stat(path, &last))
	content, err := os.ReadFile(path)
	check(t, err)
	if last.Nlink != names-allowed || last.Blocks > 64 || last.Mode&0o7777 != 0o4711 || string(content[8192:8199]) != "content" {
		t.Errorf("the last is %+v", last)
	}
	// And what was given to them is looked at.
	check(t, os.Chmod(path, 0o600))
	if _, err := sink.Check(ctx, spoolOf(t, entries[0], entries[names-1])); !errors.Is(err, sdk.ErrIntegrity) {
		t.Errorf("another mode: %v", err)
	}
}
