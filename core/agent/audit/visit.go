package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// visit compares what the walk has found at a path.
func (a *audit) visit(ctx context.Context, is *manifest.Entry, r *reader) error {
	n, want, found, err := a.find(is.Path)
	if err != nil {
		return err
	}
	if !found {
		a.of = append(a.of, nowhere)
		if a.compares("additional") {
			a.report(control.FindingAdditional, is.Path, nowhere, string(is.Type))
		}
		return nil
	}
	a.of = append(a.of, uint32(n))
	a.seen.set(n)
	first := n // of the names of this file
	link := want.Link
	if want.HardLink != 0 {
		first = want.HardLink - 1
		if want, err = a.spool.Entry(first); err != nil {
			return err
		}
		link = want.Link
	}
	if what := differs(is, &want, link); what != "" {
		a.report(control.FindingDiffers, is.Path, n, what)
		return nil
	}
	if what := a.attributes(is, &want, a.linked(is, first)); what != "" {
		a.report(control.FindingAttributes, is.Path, n, what)
	}
	if is.Type != sdk.FileRegular || a.readElsewhere(is, first) {
		return nil
	}
	d, err := a.spool.Digest(first)
	if err != nil || d.State != manifest.DigestOK {
		return err
	}
	return r.read(ctx, &content{n: n, entry: *is, want: d})
}

// differs tells what of the content differs, as far as it is seen without
// reading it.
func differs(is, want *manifest.Entry, link sdk.Raw) string {
	switch {
	case is.Type != want.Type:
		return fmt.Sprintf("a %s instead of a %s", is.Type, want.Type)
	case is.Size != want.Size:
		return fmt.Sprintf("%d bytes instead of %d", is.Size, want.Size)
	case is.Link != link:
		return fmt.Sprintf("leads to %s instead of %s", control.CutPath(is.Link).Display(), control.CutPath(link).Display())
	case is.Rdev != want.Rdev:
		return "another device"
	}
	return ""
}

// group returns the first entry of the file of which the walk's entry is a
// further name, by the manifest; nowhere for none that it has.
func (a *audit) group(is *manifest.Entry) uint64 {
	n := uint64(a.of[is.HardLink-1])
	if n == nowhere {
		return nowhere
	}
	if e, err := a.spool.Entry(n); err == nil && e.HardLink != 0 {
		return e.HardLink - 1
	}
	return n
}

// readElsewhere reports whether the file was read under another of its names,
// and compared with the same digest.
func (a *audit) readElsewhere(is *manifest.Entry, first uint64) bool {
	return is.HardLink != 0 && a.group(is) == first
}

// linked tells how the names of one file do not go together.
func (a *audit) linked(is *manifest.Entry, first uint64) string {
	if is.HardLink != 0 {
		if a.group(is) != first {
			return "it is a hard link of another file"
		}
		return ""
	}
	apart := a.met.has(first)
	a.met.set(first)
	if apart {
		return "it is no hard link any more"
	}
	return ""
}

// attributes tells what else is not as it should be; empty for nothing.
func (a *audit) attributes(is, want *manifest.Entry, links string) string {
	var list []string
	add := func(aspect, format string, args ...any) {
		if a.compares(aspect) {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	if is.Mode != want.Mode && is.Type != sdk.FileSymlink {
		add("mode", "mode %04o instead of %04o", is.Mode, want.Mode)
	}
	if uid, gid := a.expect.Owner(want); is.UID != uid || is.GID != gid {
		add("owner", "owner %s:%s (%d:%d) instead of %s:%s (%d:%d)", named(is.Owner), named(is.Group), is.UID, is.GID, named(want.Owner), named(want.Group), uid, gid)
	}
	if is.MTimeSec != want.MTimeSec || is.MTimeNsec != want.MTimeNsec {
		add("mtime", "modified at %d.%09d instead of %d.%09d", is.MTimeSec, is.MTimeNsec, want.MTimeSec, want.MTimeNsec)
	}
	if is.HardLink == 0 { // else they were compared at the first name
		if name := otherXattr(is.Xattrs, a.expect.Xattrs(want)); name != "" {
			add("xattrs", "another value of %s", sdk.Raw(name).Display())
		}
	}
	if links != "" {
		add("hardlinks", "%s", links)
	}
	return strings.Join(list, ", ")
}

// named is a user's or group's name, safe to show.
func named(name string) string {
	if name == "" {
		return "-"
	}
	return sdk.Raw(name).Display()
}

// otherXattr returns the first attribute that is wanted and not there so.
// Those that were added are not looked at: security modules label files.
func otherXattr(is, want []manifest.Xattr) string {
	for _, x := range want {
		if !slices.Contains(is, x) {
			return x.Name
		}
	}
	return ""
}

// compares reports whether an aspect is to be looked at.
func (a *audit) compares(aspect string) bool { return !slices.Contains(a.Ignore, aspect) }
