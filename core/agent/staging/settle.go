package staging

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// Result is what Settle found and did. All of it is zero when there was
// nothing (any more).
type Result struct {
	Committed bool       // what was committed is published
	Published []sdk.Raw  // staged: where
	Removed   bool       // the staging directory is gone
	Kept      sdk.Raw    // its path, where it was to be kept
	Failed    *sdk.Error // what was committed could not be published; it was taken back
}

// Settle brings a staging directory to its end, whoever made it and however
// far it got: what was committed is rolled forward, all else is undone
// (external: the abort commands are run) and removed, unless keep is set. It
// succeeds when nothing is there, and may be run again after anything. A
// staging directory whose agent lives is refused with KindTimeout after 2 s,
// so an agent closes its own first.
//
// An error means that something is left to be done by another Settle.
func Settle(ctx context.Context, spec Spec, run Runner, keep bool) (Result, error) {
	if err := spec.validate(); err != nil {
		return Result{}, err
	}
	s, err := reopen(spec)
	if err != nil || s == nil {
		return Result{}, err
	}
	res, err := s.settle(ctx, run, keep)
	return res, errors.Join(err, s.Close())
}

func (s *Staging) settle(ctx context.Context, run Runner, keep bool) (res Result, err error) {
	r, err := s.readRecord()
	if err != nil {
		return res, err
	}
	if r != nil {
		res.Published, err = s.forward(context.WithoutCancel(ctx), r, run)
		if err == nil {
			res.Committed, res.Removed = true, true
			return res, s.remove()
		}
		// With the record withdrawn nothing is committed any more.
		if again, e := s.readRecord(); e != nil || again != nil {
			return res, err
		}
		res.Failed = sdk.AsError(err)
	}
	if keep && !s.spec.Dest.External {
		res.Kept = sdk.Raw(s.spec.Path())
		return res, nil
	}
	if err := s.abort(ctx, run); err != nil {
		return res, err
	}
	res.Removed = true
	return res, s.remove()
}

// reopen opens a staging directory that somebody left; nil if there is none.
func reopen(spec Spec) (*Staging, error) {
	dir, err := openTarget(spec.Dest.Dir)
	if errors.Is(err, sdk.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := &Staging{spec: spec, dir: dir}
	there, err := s.reopen()
	if err != nil || !there {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Staging) reopen() (there bool, err error) {
	s.self, err = openDir(s.dir, s.spec.Name())
	if errors.Is(err, sdk.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(s.self.Fd()), &st); err != nil {
		return false, diskerr.New("cannot look at", sdk.Raw(s.spec.Path()), err)
	}
	if int(st.Uid) != os.Geteuid() {
		return false, &sdk.Error{
			Kind:    sdk.KindPermission,
			Message: "the staging directory " + sdk.Raw(s.spec.Path()).Display() + " belongs to user " + strconv.Itoa(int(st.Uid)),
			Hint:    "run as that user",
		}
	}
	if s.lock, err = openLock(s.self); err != nil {
		return false, err
	}
	got, err := waitLock(s.lock)
	if err != nil {
		return false, err
	}
	if !got {
		return false, &sdk.Error{
			Kind:    sdk.KindTimeout,
			Message: "the agent of " + sdk.Raw(s.spec.Path()).Display() + " still runs",
			Hint:    "on its control host: transferpy cleanup " + s.spec.Transfer,
		}
	}
	return s.openRest()
}

// openRest opens what a crash may have left out: a removal that was cut
// short, or a creation. Whoever held the lock until now may also have removed
// everything.
func (s *Staging) openRest() (there bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.lock.Fd()), &st); err != nil {
		return false, diskerr.New("cannot look at", sdk.Raw(s.lock.Name()), err)
	}
	if st.Nlink == 0 {
		return false, nil
	}
	if err := unix.Mkdirat(int(s.self.Fd()), nameData, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return false, diskerr.New("cannot create", pathIn(s.self, nameData), err)
	}
	s.data, err = openDir(s.self, nameData)
	return err == nil, err
}

// remove removes the staging directory and closes the Staging. What tells
// the state goes in an order that a crash cannot make look like another: the
// spec, without which nothing is aborted, before the COMMIT record.
func (s *Staging) remove() error {
	for _, name := range []string{nameData, nameMeta, nameSpec} {
		if err := RemoveAll(s.self, name); err != nil {
			return err
		}
	}
	if err := syncDir(s.self); err != nil {
		return err
	}
	if err := s.reached(atEmptied); err != nil {
		return err
	}
	if err := s.withdraw(); err != nil {
		return err
	}
	if err := RemoveAll(s.dir, s.spec.Name()); err != nil {
		return err
	}
	return errors.Join(syncDir(s.dir), s.Close())
}

// runCommit runs an external destination's commands from the first that is
// not marked as done.
func (s *Staging) runCommit(ctx context.Context, r *record, run Runner) error {
	done, err := s.readDone()
	if err != nil {
		return err
	}
	for i := done; i < len(r.Commands); i++ {
		if err := runOne(ctx, r.Commands[i], run, "commit"); err != nil {
			if i == 0 {
				return errors.Join(err, s.withdraw())
			}
			return err
		}
		if err := writeFile(s.self, nameDone, []byte(strconv.Itoa(i+1))); err != nil {
			return err
		}
		if err := s.reached(atMoved); err != nil {
			return err
		}
	}
	return nil
}

// abort runs an external destination's abort commands, all of them whatever
// becomes of each. Without a spec nothing was begun, or all is done.
func (s *Staging) abort(ctx context.Context, run Runner) error {
	if !s.spec.Dest.External {
		return nil
	}
	if _, err := readFile(s.self, nameSpec); errors.Is(err, sdk.ErrNotFound) {
		return nil
	}
	var all error
	for _, cmd := range s.spec.Dest.Abort {
		all = errors.Join(all, runOne(ctx, s.spec.expand(cmd), run, "abort"))
	}
	return all
}

// runOne runs one command and turns its failure into an error.
func runOne(ctx context.Context, cmd sdk.Command, run Runner, what string) error {
	res := run(ctx, cmd)
	if res.Err != nil {
		return res.Err
	}
	if res.ExitCode == 0 {
		return nil
	}
	words := make([]string, len(cmd.Argv))
	for i, arg := range cmd.Argv {
		words[i] = arg.Display()
	}
	return &sdk.Error{
		Kind:    sdk.KindInternal,
		Message: "the " + what + " command " + strings.Join(words, " ") + " exited with " + strconv.Itoa(res.ExitCode),
		Stderr:  tail(string(res.Stderr)),
	}
}

// tail returns the last lines of a command's stderr.
func tail(s string) string {
	const most = 2048
	if len(s) > most {
		s = s[len(s)-most:]
	}
	return strings.TrimSpace(s)
}
