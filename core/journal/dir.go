package journal

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Keep is how long the journal of an ended transfer stays for `list` and
// `show`. Without an end the directory of a host that runs two transfers a
// night would grow for ever.
const Keep = 30 * 24 * time.Hour

var idForm = regexp.MustCompile(`^[0-9]{8}-[0-9]{6}-[a-z2-7]{8}$`)

// NewID makes the id of a transfer: the time in UTC to the second and 40
// random bits, as in 20261123-153042-k3mq7xwa. It sorts by time, is safe as
// a file name and in a firewall's comment, and cannot be guessed by somebody
// who would like to be there first.
func NewID(now time.Time) string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return now.UTC().Format("20060102-150405-") + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// ValidID reports whether s can be the id of a transfer. Such an id is safe as
// a file name and to print.
func ValidID(s string) bool { return idForm.MatchString(s) }

// checkID refuses what cannot be a transfer's id; so an id is always safe as
// part of a path.
func checkID(id string) error {
	if ValidID(id) {
		return nil
	}
	return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%q is not the id of a transfer", id),
		Hint: "ids look like 20261123-153042-k3mq7xwa; `transferpy list` shows them"}
}

// Dir is where journals lie: $TRANSFERPY_STATE_DIR if set, else
// /var/lib/transferpy/control for root, else
// ${XDG_STATE_HOME:-$HOME/.local/state}/transferpy.
func Dir() (string, error) {
	if dir := os.Getenv("TRANSFERPY_STATE_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Getuid() == 0 {
		return "/var/lib/transferpy/control", nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "transferpy"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &sdk.Error{Kind: sdk.KindConfig, Message: "there is no directory for the journal: " + err.Error(),
			Hint: "set HOME, XDG_STATE_HOME or TRANSFERPY_STATE_DIR"}
	}
	return filepath.Join(home, ".local", "state", "transferpy"), nil
}

// List reads all journals in dir, oldest first. One that cannot be read is
// listed with its error. A directory that does not exist has none.
func List(dir string) ([]Summary, error) {
	names, err := ids(dir)
	if err != nil {
		return nil, err
	}
	list := make([]Summary, 0, len(names))
	for _, id := range names {
		state, held, err := Read(dir, id)
		if errors.Is(err, sdk.ErrNotFound) {
			continue // pruned by another process since the directory was read
		}
		list = append(list, Summary{
			Transfer: id, Created: state.Header.Created, Held: held, PID: state.Owner.PID, UID: state.Header.UID, Since: state.Owner.Time,
			Detached: state.Detached, Planned: len(state.Plan) > 0, Phase: state.Phase,
			Ended: state.Ended, Kept: state.Kept, Outcome: state.Outcome, Request: state.Header.Request, Err: err,
		})
	}
	return list, nil
}

// ids returns the ids of the journals in dir, sorted.
func ids(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileError(dir, "list the journals", err)
	}
	var names []string
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if ok && checkID(id) == nil {
			names = append(names, id)
		}
	}
	return names, nil
}

// Prune removes journals of transfers that began more than Keep ago, of which
// nothing is left on any host and which no process holds. Its failure harms
// nothing, so it tells of none.
func Prune(dir string, now time.Time) {
	names, err := ids(dir)
	if err != nil {
		return
	}
	limit := now.Add(-Keep).UTC().Format("20060102-150405-")
	for _, id := range names {
		if id >= limit {
			return // they are sorted by time
		}
		if state, held, err := Read(dir, id); err == nil && state.Ended && !held {
			os.Remove(filepath.Join(dir, id+suffix))
		}
	}
}

// MakeDir makes dir, closed to others, and refuses one that others own or
// may write into: who can put a journal there decides what `cleanup` runs.
func MakeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fileError(dir, "make the directory of the journals", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fileError(dir, "look at the directory of the journals", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Getuid() {
		return &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("the directory of the journals, %s, belongs to another user", dir),
			Hint: "give it to this user, or set TRANSFERPY_STATE_DIR to a directory of your own"}
	}
	if info.Mode().Perm()&0o077 != 0 {
		return &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("the directory of the journals, %s, is open to other users (mode %04o)", dir, info.Mode().Perm()),
			Hint: "chmod 0700 " + dir}
	}
	return nil
}

// openOwned opens a journal that this user owns, following no link.
func openOwned(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fileError(path, "open the journal", err)
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, fileError(path, "look at the journal", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Getuid() || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		file.Close()
		return nil, &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("the journal %s is not a file of this user alone", path),
			Hint: "run this as its owner; it says what is undone on other hosts, so it must be closed to others (chmod 0600)"}
	}
	return file, nil
}

func fileError(path, what string, err error) error {
	kind, hint := sdk.KindInternal, ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kind, hint = sdk.KindNotFound, "`transferpy list` shows the transfers of this user on this host"
	case errors.Is(err, fs.ErrExist):
		kind = sdk.KindExists
	case errors.Is(err, fs.ErrPermission):
		kind, hint = sdk.KindPermission, "run this as the user who started the transfer"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		kind, hint = sdk.KindNoSpace, "free some space on this host: nothing is done elsewhere that is not written here first"
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &sdk.Error{Kind: kind, Message: fmt.Sprintf("cannot %s: %s: %v", what, path, err), Hint: hint}
}

func decodeError(path string, err error) error {
	return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the journal %s cannot be read: %v", path, err),
		Hint: "it is damaged or was written by another version of transferpy; the agents undo by themselves when their lease ends"}
}

func heldError(id string, s *State) error {
	pid, since := 0, ""
	if s != nil {
		pid, since = s.Owner.PID, ", since "+s.Owner.Time.Local().Format(time.DateTime)
	}
	return &sdk.Error{Kind: sdk.KindExists, Message: fmt.Sprintf("transfer %s is run by the living process %d%s", id, pid, since),
		Hint: fmt.Sprintf("transferpy status %s shows how far it is, transferpy cancel %s ends it", id, id)}
}
