package staging

import (
	"encoding/json"
	"errors"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// Create makes the staging directory in Dest.Dir and locks it. It fails with
// KindExists, and leaves nothing, where a name that is to be published is
// taken, where another living transfer is about to publish it, or where a
// directory that must be empty is not. The caller ends it by Publish, or by
// Close and then Settle.
func Create(spec Spec) (*Staging, error) { return begin(spec, (*Staging).create) }

// begin opens the target directory and makes or takes a staging directory in
// it, with no other at the same time.
func begin(spec Spec, do func(*Staging) error) (*Staging, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	dir, err := openTarget(spec.Dest.Dir)
	if err != nil {
		return nil, err
	}
	// Two that create at once must not overlook one another.
	if err := lockBriefly(dir); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	s := &Staging{spec: spec, dir: dir}
	if err := do(s); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := unlock(dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// openTarget opens the target directory. The operator's path may lead
// through symlinks.
func openTarget(p sdk.Raw) (*os.File, error) {
	fd, err := unix.Open(string(p), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) {
		return nil, &sdk.Error{Kind: sdk.KindNotFound, Message: "the target " + p.Display() + " is not a directory", Hint: "name an existing directory"}
	}
	if err != nil {
		return nil, diskerr.New("cannot open the target directory", p, err)
	}
	return os.NewFile(uintptr(fd), string(p)), nil
}

func (s *Staging) create() error {
	if err := s.refuse(); err != nil {
		return err
	}
	name := s.spec.Name()
	err := unix.Mkdirat(int(s.dir.Fd()), name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		return &sdk.Error{
			Kind:    sdk.KindExists,
			Message: "the staging directory " + sdk.Raw(s.spec.Path()).Display() + " is there already",
			Hint:    "transferpy cleanup " + s.spec.Transfer,
		}
	}
	if err != nil {
		return diskerr.New("cannot create", sdk.Raw(s.spec.Path()), err)
	}
	if err = s.furnish(); err != nil {
		return errors.Join(err, RemoveAll(s.dir, name))
	}
	return nil
}

// refuse looks for what stands in the way already.
func (s *Staging) refuse() error {
	if s.spec.Dest.External {
		return nil
	}
	for _, name := range s.spec.Dest.Publish {
		var st unix.Stat_t
		err := unix.Fstatat(int(s.dir.Fd()), string(name), &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil {
			return s.taken(name)
		}
		if !errors.Is(err, unix.ENOENT) {
			return diskerr.New("cannot look at", s.final(name), err)
		}
	}
	if err := s.checkEmpty(); err != nil {
		return err
	}
	return s.checkOthers()
}

// final returns the path at which a name is published.
func (s *Staging) final(name sdk.Raw) sdk.Raw {
	return sdk.Raw(path.Join(string(s.spec.Dest.Dir), string(name)))
}

func (s *Staging) taken(name sdk.Raw) error {
	return &sdk.Error{
		Kind:    sdk.KindExists,
		Message: s.final(name).Display() + " is there already and would be overwritten",
		Hint:    "move it away or choose another target directory",
	}
}

// furnish fills the new directory.
func (s *Staging) furnish() error {
	var err error
	if s.self, err = openDir(s.dir, s.spec.Name()); err != nil {
		return err
	}
	// A default ACL or the set-group-ID bit of the target directory would
	// reach everything that is made below.
	fd := int(s.self.Fd())
	for _, attr := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(fd, attr)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) {
			return diskerr.New("cannot close to others", sdk.Raw(s.spec.Path()), err)
		}
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return diskerr.New("cannot close to others", sdk.Raw(s.spec.Path()), err)
	}
	if err := s.makeRooms(s.self); err != nil {
		return err
	}
	if s.data, err = openDir(s.self, nameData); err != nil {
		return err
	}
	if s.lock, err = openLock(s.self); err != nil {
		return err
	}
	if _, err := tryLock(s.lock); err != nil {
		return err
	}
	content, err := json.Marshal(s.spec)
	if err != nil {
		return err
	}
	if err := writeFile(s.self, nameSpec, content); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// makeRooms makes the directories for data and meta.
func (s *Staging) makeRooms(in *os.File) error {
	for _, name := range []string{nameData, nameMeta} {
		if err := unix.Mkdirat(int(in.Fd()), name, 0o700); err != nil {
			return diskerr.New("cannot create", pathIn(in, name), err)
		}
	}
	return nil
}

// checkEmpty holds MustEmpty: nothing but this transfer's staging and root's
// empty lost+found.
func (s *Staging) checkEmpty() error {
	if !s.spec.Dest.MustEmpty {
		return nil
	}
	return eachName(s.dir, func(name string) error {
		if strings.HasPrefix(name, s.spec.family()) || name == "lost+found" && s.emptyLostFound() {
			return nil
		}
		return &sdk.Error{
			Kind:    sdk.KindExists,
			Message: "the target directory " + s.spec.Dest.Dir.Display() + " is not empty: it holds " + sdk.Raw(name).Display(),
			Hint:    "empty it or choose another",
		}
	})
}

func (s *Staging) emptyLostFound() bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(s.dir.Fd()), "lost+found", &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Uid != 0 || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return false
	}
	d, err := openDir(s.dir, "lost+found")
	if errors.Is(err, sdk.ErrPermission) {
		return true // root keeps us from looking; files there have no names anyway
	}
	if err != nil {
		return false
	}
	err = eachName(d, func(string) error { return unix.ENOTEMPTY })
	return d.Close() == nil && err == nil
}

// checkOthers refuses to publish what another living transfer, or another
// member of this one, is about to publish.
func (s *Staging) checkOthers() error {
	return eachName(s.dir, func(name string) error {
		if !strings.HasPrefix(name, prefix) || name == s.spec.Name() { // its own, taken over
			return nil
		}
		other, alive := inspect(s.dir, name)
		if !alive || !collide(&s.spec.Dest, &other.Dest) {
			return nil
		}
		return &sdk.Error{
			Kind:    sdk.KindExists,
			Message: "transfer " + other.Transfer + " (" + other.Member + ") is writing to the same place in " + s.spec.Dest.Dir.Display(),
			Hint:    "wait for it to end, or end it on its control host: transferpy cleanup " + other.Transfer,
		}
	})
}

// collide reports whether two destinations in one directory exclude each
// other. What is published without having been named shows at its rename.
func collide(a, b *sdk.Destination) bool {
	if a.External || b.External {
		return false
	}
	return a.MustEmpty || b.MustEmpty || slices.ContainsFunc(a.Publish, func(name sdk.Raw) bool { return slices.Contains(b.Publish, name) })
}

// inspect reads the spec of another staging directory and whether its agent
// lives. One that is neither ours nor root's does not count: where others may
// write too, they must not be able to keep us out.
func inspect(dir *os.File, name string) (Spec, bool) {
	self, err := openDir(dir, name)
	if err != nil {
		return Spec{}, false
	}
	defer self.Close()
	var st unix.Stat_t
	if unix.Fstat(int(self.Fd()), &st) != nil || (st.Uid != 0 && int(st.Uid) != os.Geteuid()) {
		return Spec{}, false
	}
	lock, err := openRegular(self, nameLock, unix.O_RDWR)
	if err != nil {
		return Spec{}, false
	}
	defer lock.Close()
	if free, err := tryLock(lock); free || err != nil {
		return Spec{}, false
	}
	var spec Spec
	content, err := readFile(self, nameSpec)
	if err != nil || json.Unmarshal(content, &spec) != nil {
		return Spec{}, false
	}
	return spec, true
}
