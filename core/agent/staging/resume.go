package staging

import (
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// maxKept bounds the earlier attempts whose state is kept beside the newest.
const maxKept = 8

// Resume is Create for a transfer that is resumed: it takes over a staging
// directory that an earlier attempt has left, with what that attempt has staged
// put aside (Kept), or makes one where there is none. One that was committed,
// or whose agent lives, is refused.
func Resume(spec Spec) (*Staging, error) { return begin(spec, (*Staging).resume) }

func (s *Staging) resume() error {
	there, err := s.reopen()
	if err != nil {
		return err
	}
	if !there {
		return s.create()
	}
	r, err := s.readRecord()
	if err != nil {
		return err
	}
	if r != nil {
		return &sdk.Error{Kind: sdk.KindExists, Message: "what is staged in " + sdk.Raw(s.spec.Path()).Display() + " was committed already",
			Hint: "transferpy cleanup " + s.spec.Transfer}
	}
	if err := s.refuse(); err != nil {
		return err
	}
	return s.putAside()
}

// putAside makes what was staged the newest kept attempt, and room for the one
// that begins.
func (s *Staging) putAside() error {
	kept, err := s.keptNumbers()
	if err != nil {
		return err
	}
	for len(kept) >= maxKept { // the oldest
		if err := RemoveAll(s.self, keptName(kept[0])); err != nil {
			return err
		}
		kept = kept[1:]
	}
	next := 1
	if n := len(kept); n > 0 {
		next = kept[n-1] + 1
	}
	name, fd := keptName(next), int(s.self.Fd())
	if err := unix.Mkdirat(fd, name, 0o700); err != nil {
		return diskerr.New("cannot create", pathIn(s.self, name), err)
	}
	for _, room := range []string{nameData, nameMeta} {
		// Without it a crash came between: it is empty, or aside already.
		err := unix.Renameat(fd, room, fd, path.Join(name, room))
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return diskerr.New("cannot move", pathIn(s.self, room), err)
		}
	}
	if err := s.data.Close(); err != nil {
		return diskerr.New("cannot close", pathIn(s.self, nameData), err)
	}
	if err := s.makeRooms(s.self); err != nil {
		return err
	}
	if s.data, err = openDir(s.self, nameData); err != nil {
		return err
	}
	return syncDir(s.self)
}

func keptName(n int) string { return keptPrefix + strconv.Itoa(n) }

// keptNumbers are the numbers of the kept attempts, the oldest first.
func (s *Staging) keptNumbers() ([]int, error) {
	var list []int
	err := eachName(s.self, func(name string) error {
		text, is := strings.CutPrefix(name, keptPrefix)
		if n, err := strconv.Atoi(text); is && err == nil && n > 0 && keptName(n) == name {
			list = append(list, n)
		}
		return nil
	})
	slices.Sort(list)
	return list, err
}

// Kept is what an earlier attempt has left: the directory of what it had
// staged, which the caller closes, and the path of the one with what the agent
// kept beside it.
type Kept struct {
	Data     *os.File
	MetaPath string
}

// Kept opens what earlier attempts have left, the newest first. One that is not
// whole is left out.
func (s *Staging) Kept() ([]Kept, error) {
	numbers, err := s.keptNumbers()
	if err != nil {
		return nil, err
	}
	var list []Kept
	for _, n := range slices.Backward(numbers) {
		dir, err := openDir(s.self, keptName(n))
		if err != nil {
			return list, err
		}
		data, err := openDir(dir, nameData)
		dir.Close()
		if errors.Is(err, sdk.ErrNotFound) {
			continue
		}
		if err != nil {
			return list, err
		}
		list = append(list, Kept{Data: data, MetaPath: path.Join(s.spec.Path(), keptName(n), nameMeta)})
	}
	return list, nil
}

// DropKept removes what earlier attempts have left.
func (s *Staging) DropKept() error {
	numbers, err := s.keptNumbers()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if err := RemoveAll(s.self, keptName(n)); err != nil {
			return err
		}
	}
	return nil
}
