package staging

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// Runner runs one command on this host and waits for its end.
type Runner func(ctx context.Context, cmd sdk.Command) sdk.Result

// Points at which a crash matters, in order.
const (
	atCommitted = "committed" // the COMMIT record is on disk
	atMoved     = "moved"     // one name is published, or one command is done
	atPublished = "published" // all of it; the staging directory is still there
	atEmptied   = "emptied"   // the staging directory holds the COMMIT record only
)

// Publish makes what is staged the target's: once the COMMIT record is on
// disk, each name is renamed into the target directory without replacing
// anything, or an external destination's commands are run. Then the staging
// directory is removed and the Staging closed. It returns the published
// paths in their order.
//
// A name that is taken meanwhile takes back those already renamed, and
// Publish fails with KindExists; nothing is published then, nor is it after
// any other error in a staged destination, unless the error says so or comes
// with the paths: then all is published, and only the staging directory could
// not be removed. The Staging stays open after an error. Before the COMMIT
// record is written ctx ends the work; after it ctx ends nothing.
//
// A command of an external destination that fails before any was done
// withdraws the COMMIT record; one that fails later leaves it, and Settle
// goes on with it. A crash may cause a command to be run twice.
func (s *Staging) Publish(ctx context.Context, run Runner) ([]sdk.Raw, error) {
	r, err := s.readRecord()
	if err != nil {
		return nil, err
	}
	if r == nil {
		if r, err = s.commit(ctx); err != nil {
			return nil, err
		}
	}
	published, err := s.forward(context.WithoutCancel(ctx), r, run)
	if err != nil {
		return nil, err
	}
	return published, s.remove()
}

// commit makes the decision to publish, durably.
func (s *Staging) commit(ctx context.Context) (*record, error) {
	r, err := s.newRecord()
	if err != nil {
		return nil, err
	}
	if !s.spec.Dest.External {
		if err := s.checkEmpty(); err != nil {
			return nil, err
		}
	}
	if err := s.Sync(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.writeRecord(r); err != nil {
		return nil, err
	}
	return r, s.reached(atCommitted)
}

// forward does what the record says; what is done already is passed over.
func (s *Staging) forward(ctx context.Context, r *record, run Runner) ([]sdk.Raw, error) {
	var published []sdk.Raw
	var err error
	if s.spec.Dest.External {
		err = s.runCommit(ctx, r, run)
	} else {
		published, err = s.moveAll(r)
	}
	if err != nil {
		return nil, err
	}
	return published, s.reached(atPublished)
}

// moveAll publishes all names, or none.
func (s *Staging) moveAll(r *record) ([]sdk.Raw, error) {
	var published []sdk.Raw
	for i := range r.Names {
		err := s.move(&r.Names[i])
		if err == nil {
			if e := s.reached(atMoved); e != nil {
				return nil, e // as after a crash: nothing more is done
			}
			published = append(published, s.final(r.Names[i].Name))
			continue
		}
		return nil, both(err, s.takeBack(r.Names[:i+1]))
	}
	return published, syncDir(s.dir)
}

// both adds to an error that taking back what was published has failed too:
// then the COMMIT record stays, for Settle.
func both(err, back error) error {
	if back == nil {
		return err
	}
	e := *sdk.AsError(err)
	e.Message += "; and what was published before could not be taken back: " + back.Error()
	return &e
}

// move publishes one name.
func (s *Staging) move(c *committed) error {
	var st unix.Stat_t
	name := string(c.Name)
	err := unix.Fstatat(int(s.data.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		// Only we take names out of the staging directory: it is done, but
		// perhaps not to its end.
		return s.finishMode(s.dir, c)
	}
	if err != nil {
		return diskerr.New("cannot publish", s.final(c.Name), err)
	}
	if st.Ino != c.Ino {
		return &sdk.Error{Kind: sdk.KindIntegrity, Message: pathIn(s.data, name).Display() + " is not what was verified: somebody replaced it"}
	}
	if c.Dir && c.Mode&0o300 != 0o300 {
		// Moving a directory changes its "..", which needs the right to
		// write in it.
		if err := chmod(s.data, name, c.Mode|0o700); err != nil {
			return diskerr.New("cannot publish", s.final(c.Name), err)
		}
	}
	if err := s.rename(s.data, s.dir, c); err != nil {
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
			return s.taken(c.Name)
		}
		return diskerr.New("cannot publish", s.final(c.Name), err)
	}
	return s.finishMode(s.dir, c)
}

// finishMode gives a directory that had to be opened up its own mode again.
func (s *Staging) finishMode(in *os.File, c *committed) error {
	if !c.Dir || c.Mode&0o300 == 0o300 {
		return nil
	}
	if !same(in, c) {
		return nil // taken away by somebody after it was published
	}
	return diskerr.New("cannot set the mode of", pathIn(in, string(c.Name)), chmod(in, string(c.Name), c.Mode))
}

// same reports whether a name in a directory is what was committed.
func same(in *os.File, c *committed) bool {
	var st, dir unix.Stat_t
	return unix.Fstatat(int(in.Fd()), string(c.Name), &st, unix.AT_SYMLINK_NOFOLLOW) == nil &&
		unix.Fstat(int(in.Fd()), &dir) == nil &&
		st.Dev == dir.Dev && st.Ino == c.Ino && isDir(&st) == c.Dir
}

// takeBack renames what was published into the staging directory again, last
// one first, and withdraws the COMMIT record. What is not ours stays.
func (s *Staging) takeBack(names []committed) error {
	var all error
	for i := len(names) - 1; i >= 0; i-- {
		c := &names[i]
		if !same(s.dir, c) {
			continue
		}
		err := s.moveBack(c)
		all = errors.Join(all, diskerr.New("cannot take back", s.final(c.Name), err))
	}
	if all != nil {
		return all
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	if err := syncDir(s.data); err != nil {
		return err
	}
	return s.withdraw()
}

func (s *Staging) moveBack(c *committed) error {
	if c.Dir && c.Mode&0o300 != 0o300 {
		if err := chmod(s.dir, string(c.Name), c.Mode|0o700); err != nil {
			return err
		}
	}
	if err := s.rename(s.dir, s.data, c); err != nil {
		return err
	}
	return s.finishMode(s.data, c)
}
