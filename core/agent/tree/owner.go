package tree

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// owner maps an entry's owner and group to numbers of this host.
type owner struct {
	names    *names
	numeric  bool
	fixed    bool // uid and gid for all
	uid, gid uint32
	euid     uint32
	groups   []int // that the agent's user may give files to

	mu    sync.RWMutex
	known map[ownerName]here
}

// ownerName is a user's or group's name on the source.
type ownerName struct {
	group bool
	name  string
}

// here is a number on this host; ok is false if the name has none.
type here struct {
	id uint32
	ok bool
}

// newOwner reads --owner.
func newOwner(o SinkOptions) (*owner, error) {
	w := &owner{names: newNames(), euid: uint32(os.Geteuid()), known: make(map[ownerName]here)}
	if groups, err := os.Getgroups(); err == nil {
		w.groups = groups
	}
	w.groups = append(w.groups, os.Getegid())
	user, group, both := strings.Cut(o.Owner, ":")
	switch {
	case o.Owner == "" || o.Owner == "name":
		return w, nil
	case o.Owner == "numeric":
		w.numeric = true
		return w, nil
	case !both:
		return w, &sdk.Error{Kind: sdk.KindConfig, Message: "owner " + strconv.Quote(o.Owner) + " is not known", Hint: "one of name, numeric, USER:GROUP"}
	}
	w.fixed = true
	var okUser, okGroup bool
	w.uid, okUser = given(user, w.names.uid)
	w.gid, okGroup = given(group, w.names.gid)
	if !okUser || !okGroup {
		return w, &sdk.Error{Kind: sdk.KindConfig, Message: "owner " + strconv.Quote(o.Owner) + ": no such user or group on this host", Hint: "name users and groups that this host knows, or numbers"}
	}
	return w, nil
}

// given reads a user or group as the operator wrote it: a name or a number.
func given(s string, lookup func(string) (uint32, bool)) (uint32, bool) {
	if id, err := strconv.ParseUint(s, 10, 32); err == nil && id < math.MaxUint32 {
		return uint32(id), true
	}
	return lookup(s)
}

// of returns the owner and group that e is to have here.
func (w *owner) of(e *manifest.Entry) (uid, gid uint32) {
	if w.fixed {
		return w.uid, w.gid
	}
	uid, gid = e.UID, e.GID
	if w.numeric {
		return uid, gid
	}
	if id, ok := w.number(false, e.Owner); ok {
		uid = id
	}
	if id, ok := w.number(true, e.Group); ok {
		gid = id
	}
	return uid, gid
}

// number returns the number of a name. A tree's files belong to few, and many
// workers ask for them.
func (w *owner) number(group bool, name string) (uint32, bool) {
	if name == "" {
		return 0, false
	}
	key := ownerName{group, name}
	w.mu.RLock()
	v, found := w.known[key]
	w.mu.RUnlock()
	if found {
		return v.id, v.ok
	}
	if group {
		v.id, v.ok = w.names.gid(name)
	} else {
		v.id, v.ok = w.names.uid(name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.known) >= maxNames {
		clear(w.known)
	}
	w.known[key] = v
	return v.id, v.ok
}

// member reports whether the agent's user may give files to a group.
func (w *owner) member(gid uint32) bool { return slices.Contains(w.groups, int(gid)) }

// keep is "leave it as it is" for chown.
const keep = -1

// attributes are what an entry's file is to have on this host, as far as the
// agent's rights and the file system allow.
type attributes struct {
	uid, gid int // keep: not ours to say
	mode     uint32
	missing  []string // what is not preserved, as notes
}

// attributesOf decides what e's file gets.
func (k *Sink) attributesOf(e *manifest.Entry) attributes {
	uid, gid := k.owner.of(e)
	a := attributes{uid: int(uid), gid: int(gid), mode: e.Mode}
	switch {
	case !k.can.owners:
		a.uid, a.gid = keep, keep
		a.missing = append(a.missing, noteNoOwners)
	case !k.opts.Root:
		if uid != k.owner.euid {
			a.uid = keep
			a.missing = append(a.missing, noteOwner)
		}
		if !k.owner.member(gid) {
			a.gid = keep
			a.missing = append(a.missing, noteGroup)
		}
	}
	k.dropSetID(e, &a)
	if !k.can.modes && e.Type != sdk.FileSymlink {
		a.missing = append(a.missing, noteNoModes)
	}
	if len(e.Extra) > 0 {
		a.missing = append(a.missing, noteNewer)
	}
	return a
}

// dropSetID takes the bits away that would hand another's rights on, where
// the file now belongs to somebody else than it did: because its owner could
// not be given, or because all files are given to one. On a directory the bit
// hands on a group to what is made in it, and no rights.
func (k *Sink) dropSetID(e *manifest.Entry, a *attributes) {
	drop, given := uint32(0), k.owner.fixed && e.Type == sdk.FileRegular
	if a.uid == keep || given {
		drop |= unix.S_ISUID
	}
	if a.gid == keep || given {
		drop |= unix.S_ISGID
	}
	if e.Type != sdk.FileSymlink && e.Mode&drop != 0 {
		a.mode &^= drop
		a.missing = append(a.missing, noteSetID)
	}
}

// abilities are what the file system keeps of a file's attributes.
type abilities struct {
	owners bool // chown to others, where the agent may
	modes  bool
	nanos  bool // modification times to the nanosecond
}

// probeName cannot be a copied name by accident, and if it is, Create says
// that it is taken only if the probe was not removed.
const probeName = ".transferpy-probe"

// probe finds out by a file of its own what the file system keeps, instead
// of guessing from its type.
func probe(dir int, root bool) (abilities, error) {
	if err := unix.Unlinkat(dir, probeName, 0); err != nil && err != unix.ENOENT {
		return abilities{}, err
	}
	fd, err := unix.Openat(dir, probeName, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return abilities{}, err
	}
	defer unix.Close(fd)
	const uid, mode, nsec = 1, 0o640, 123456789
	// What is refused shows in the result.
	if root {
		_ = unix.Fchown(fd, uid, uid)
	}
	_ = unix.Fchmod(fd, mode)
	_ = unix.UtimesNanoAt(dir, probeName, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: 1, Nsec: nsec}}, unix.AT_SYMLINK_NOFOLLOW)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err2 := unix.Unlinkat(dir, probeName, 0); err == nil {
		err = err2
	}
	return abilities{
		owners: !root || st.Uid == uid && st.Gid == uid,
		modes:  st.Mode&0o7777 == mode,
		nanos:  st.Mtim.Nsec == nsec,
	}, err
}
