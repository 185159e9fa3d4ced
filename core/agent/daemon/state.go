package daemon

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

// The state directory:
//
//	agents/              binaries, placed by the controller
//	in/                  messages, put there by the controller, deleted by their reader
//	run/TRANSFER/AGENT/  one living agent, or what is left of one
//	kept/TRANSFER/AGENT/ what an agent of an earlier attempt has left, while
//	                     the transfer is resumed
//	logs/                what commands have said that a transfer has run as its
//	                     source, where the mode wants it kept; the newest 16
//	results/             the last answers of agents that have published all; see
//	                     results.go
//	profile/             made by whoever wants profiles of agents; see profileDir
const (
	agentsDir = "agents"
	inDir     = "in"
	runDir    = "run"
	keptDir   = "kept"
	logsDir   = "logs"

	resultsDir = "results"
)

// staleMessage is the age at which a message that nobody has read is removed.
const staleMessage = 24 * time.Hour

// state is the state directory of this uid on this host.
type state struct{ path string }

// openState finds the state directory and makes what of it is missing.
func openState(path string) (*state, error) {
	paths := []string{path}
	if path == "" {
		paths = usualPlaces()
	}
	var failures []error
	for _, path := range paths {
		s := &state{path: path}
		if err := s.make(); err != nil {
			failures = append(failures, err)
			continue
		}
		return s, nil
	}
	return nil, errors.Join(failures...)
}

// usualPlaces are where the state directory may be, the best first.
func usualPlaces() []string {
	uid := os.Getuid()
	if uid == 0 {
		return []string{"/var/lib/transferpy"}
	}
	var list []string
	if cache := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(cache) {
		list = append(list, filepath.Join(cache, "transferpy"))
	} else if home := homeDir(); filepath.IsAbs(home) {
		list = append(list, filepath.Join(home, ".cache", "transferpy"))
	}
	return append(list, "/var/tmp/transferpy-"+strconv.Itoa(uid))
}

// homeDir does not trust the environment alone: salt sets none.
func homeDir() string {
	if home := os.Getenv("HOME"); home != "" {
		return home
	}
	if u, err := user.Current(); err == nil {
		return u.HomeDir
	}
	return ""
}

func (s *state) make() error {
	if !filepath.IsAbs(s.path) {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the state directory %q is no absolute path", s.path)}
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	for _, dir := range []string{s.path, s.sub(agentsDir), s.sub(inDir), s.sub(runDir)} {
		if err := makePrivate(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) sub(name string) string { return filepath.Join(s.path, name) }

// transferDir is where the agents of a transfer are; transfer is a valid id.
func (s *state) transferDir(transfer string) string {
	return filepath.Join(s.path, runDir, transfer)
}

// makePrivate makes a directory that is closed to others, or checks that the
// one that is there is.
func makePrivate(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("make the state directory: %v", err)}
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("state directory %s: %w", path, err)
	}
	if err := private(&st, unix.S_IFDIR); err != nil {
		return &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("state directory %s: %v", path, err),
			Hint: fmt.Sprintf("remove it, or: chown %d %s; chmod 0700 %s", os.Getuid(), path, path)}
	}
	return nil
}

// private checks that what st tells of is of the type, ours, and closed to
// everybody else.
func private(st *unix.Stat_t, kind uint32) error {
	switch {
	case st.Mode&unix.S_IFMT != kind:
		return errors.New("it is of another type")
	case int(st.Uid) != os.Getuid():
		return fmt.Errorf("it belongs to uid %d, not to uid %d", st.Uid, os.Getuid())
	case st.Mode&0o077 != 0:
		return fmt.Errorf("its mode %#o opens it to others", st.Mode&0o7777)
	}
	return nil
}

// sweepMessages removes messages that were put and never read.
func (s *state) sweepMessages() {
	entries, err := os.ReadDir(s.sub(inDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > staleMessage {
			os.Remove(filepath.Join(s.sub(inDir), e.Name()))
		}
	}
}
