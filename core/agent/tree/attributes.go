package tree

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// FinishEntry gives one entry what Finish gives all. It is for entries that no
// manifest holds; their directories come after them. Safe for concurrent use.
func (k *Sink) FinishEntry(e *manifest.Entry) error { return k.finish(e) }

// finish gives one entry its attributes.
func (k *Sink) finish(e *manifest.Entry) error {
	a := k.attributesOf(e)
	for _, what := range a.missing {
		k.notes.add(what, e.Path)
	}
	err := k.in(e.Path, func(parent int, name string) error { return k.apply(parent, name, e, &a) })
	return diskerr.New("cannot set owner, mode and times of", k.full(e.Path), err)
}

// apply sets what is not as it should be. The order matters: a change of the
// owner takes capabilities and set-ID bits away; attributes of users need
// write permission, which mode and ACL may take; and the rest changes times.
// Nothing is opened, since to open a device or a fifo may do something, and
// no symlink is followed.
func (k *Sink) apply(parent int, name string, e *manifest.Entry, a *attributes) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) && isSpecial(e.Type) && k.unmade.Load() {
		return nil
	}
	if err != nil {
		return err
	}
	if TypeOf(st.Mode) != e.Type {
		return unix.ELOOP // says: something else stands there
	}
	if err := k.chown(parent, name, e, a, &st); err != nil {
		return err
	}
	if err := k.setXattrs(parent, name, e); err != nil {
		return err
	}
	if e.Type != sdk.FileSymlink && st.Mode&0o7777 != a.mode {
		if err := k.chmod(parent, name, e.Type, a.mode); err != nil && k.can.modes {
			return err
		}
	}
	if err := k.setACLs(parent, name, e, a); err != nil {
		return err
	}
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: e.MTimeSec, Nsec: int64(e.MTimeNsec)}}
	err = unix.UtimesNanoAt(parent, name, times, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && e.Type == sdk.FileSymlink && refused(err) {
		k.notes.add(noteSymlinkOwn, e.Path)
		return nil
	}
	return err
}

// chown sets owner and group where they differ from st, and takes out of st
// what that may have taken from the mode.
func (k *Sink) chown(parent int, name string, e *manifest.Entry, a *attributes, st *unix.Stat_t) error {
	uid, gid := a.uid, a.gid
	if uid == int(st.Uid) {
		uid = keep
	}
	if gid == int(st.Gid) {
		gid = keep
	}
	if uid == keep && gid == keep {
		return nil
	}
	st.Mode &^= unix.S_ISUID | unix.S_ISGID
	err := unix.Fchownat(parent, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	if refused(err) {
		k.notes.add(noteNoOwners, e.Path)
		k.refused.Store(true)
		return nil
	}
	return err
}

// chmod sets a mode without following a symlink.
func (k *Sink) chmod(parent int, name string, t sdk.FileType, mode uint32) error {
	if !k.noChmodAt.Load() {
		err := unix.Fchmodat(parent, name, mode, unix.AT_SYMLINK_NOFOLLOW)
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
		k.noChmodAt.Store(true)
	}
	if t != sdk.FileRegular && t != sdk.FileDirectory {
		return chmodSpecial(parent, name, mode)
	}
	fd, err := openSame(parent, name, t)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, mode)
}

// openSame opens what Create made, which is still open to its owner.
func openSame(parent int, name string, t sdk.FileType) (int, error) {
	if t != sdk.FileDirectory {
		return openRegular(parent, name, unix.O_RDONLY)
	}
	return retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

// chmodSpecial holds a fifo or device node without opening it.
func chmodSpecial(parent int, name string, mode uint32) error {
	fd, err := retry(func() (int, error) {
		return unix.Openat(parent, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if TypeOf(st.Mode) == sdk.FileSymlink {
		return unix.ELOOP
	}
	return unix.Chmod(fdPath(fd), mode)
}

// Kinds of extended attributes: a refusal of one says nothing of the others.
const (
	kindUser = 1 << iota
	kindTrusted
	kindSecurity
	kindCapability
	kindLabel
	kindACL
	kindForeign
)

// kindOf returns an attribute's kind and what is said when it is refused.
func kindOf(name string) (kind uint32, note string) {
	switch {
	case isACL(name):
		return kindACL, noteACLs
	case name == xattrCapability:
		return kindCapability, noteCaps
	case name == xattrSELinux:
		return kindLabel, noteLabels
	case strings.HasPrefix(name, "user."):
		return kindUser, noteXattrs
	case strings.HasPrefix(name, "trusted."):
		return kindTrusted, noteXattrs
	case strings.HasPrefix(name, "security."):
		return kindSecurity, noteXattrs
	}
	return kindForeign, noteForeign
}

// setXattrs sets all but the ACLs.
func (k *Sink) setXattrs(parent int, name string, e *manifest.Entry) error {
	for i := range e.Xattrs {
		if isACL(e.Xattrs[i].Name) {
			continue
		}
		if _, err := k.setXattr(parent, name, e, &e.Xattrs[i]); err != nil {
			return err
		}
	}
	return nil
}

// setACLs sets the ACLs. Beside one, a mode's group bits are its mask: without
// it they would give the group what the ACL did not.
func (k *Sink) setACLs(parent int, name string, e *manifest.Entry, a *attributes) error {
	for i := range e.Xattrs {
		x := &e.Xattrs[i]
		if !isACL(x.Name) {
			continue
		}
		set, err := k.setXattr(parent, name, e, x)
		if err != nil {
			return err
		}
		if set || x.Name != xattrACL || !k.can.modes {
			continue
		}
		mode := a.mode & (^uint32(0o070) | groupPermissions(x.Value)<<3)
		if err := k.chmod(parent, name, e.Type, mode); err != nil {
			return err
		}
	}
	return nil
}

// setXattr sets one attribute; set is false if that was refused. Attributes
// of namespaces that only a source sends that does not follow the rules are
// none of ours.
func (k *Sink) setXattr(parent int, name string, e *manifest.Entry, x *manifest.Xattr) (set bool, err error) {
	kind, note := kindOf(x.Name)
	err = unix.EOPNOTSUPP
	if kind != kindForeign {
		err = unix.Lsetxattr(at(parent, name), x.Name, []byte(k.xattr(e, x)), 0)
	}
	if err != nil && xattrRefused(err) {
		k.without.Or(kind)
		k.notes.add(note, e.Path)
		return false, nil
	}
	return err == nil, err
}

// xattr returns the value that an attribute is to have here.
func (k *Sink) xattr(e *manifest.Entry, x *manifest.Xattr) string {
	if isACL(x.Name) {
		return k.owner.acl(x.Value, e.ACLNames)
	}
	return x.Value
}

// xattrRefused reports whether an attribute cannot be kept here: by rights or
// file system, for want of room beside the file (which a full file system
// does not tell apart), or because /proc is not there.
func xattrRefused(err error) bool {
	for _, no := range [...]error{unix.ENOSPC, unix.EDQUOT, unix.E2BIG, unix.ERANGE, unix.ENODATA, unix.ENOENT, unix.ENOTDIR} {
		if errors.Is(err, no) {
			return true
		}
	}
	return refused(err)
}
