package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/facts"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// What lies in an agent's directory, beside the undo log.
const (
	lockName   = "lock"     // flocked by the agent while it lives
	socketName = "ctl.sock" // takes requests
	infoName   = "agent.json"
	logName    = "log"
	crashName  = "crash" // the runtime's last words
)

// Names of directories on their way in and out begin with a dot, so that a
// directory with an id for its name always has its lock.
const (
	newPrefix = ".new-"
	oldPrefix = ".old-"
)

// crashTail is how much of an agent's last words is reported, in bytes.
const crashTail = 4 << 10

// info tells other processes about an agent.
type info struct {
	V       int            `json:"v"`
	Call    string         `json:"call"` // of the prepare that made it
	PID     int            `json:"pid"`
	Machine string         `json:"machine"` // a home directory may be shared by several
	Ready   *control.Ready `json:"ready"`
}

// agentDir is an agent's directory.
type agentDir struct {
	id   string
	path string
}

// listAgents returns the directories of a transfer's agents on this machine.
func listAgents(state *state, transfer string) ([]agentDir, error) {
	return agentsIn(state.transferDir(transfer))
}

func agentsIn(dir string) ([]agentDir, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for agents: %w", err)
	}
	var list []agentDir
	for _, e := range entries {
		d := agentDir{id: e.Name(), path: filepath.Join(dir, e.Name())}
		if !e.IsDir() || !control.ValidID(e.Name()) || d.elsewhere() {
			continue
		}
		if len(list) == control.MaxAgents {
			return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%s holds more than %d agents", dir, control.MaxAgents)}
		}
		list = append(list, d)
	}
	return list, nil
}

// readInfo reads what the agent has written about itself.
func (d agentDir) readInfo() (*info, error) {
	data, err := os.ReadFile(filepath.Join(d.path, infoName))
	if err != nil {
		return nil, err
	}
	var i info
	if err := json.Unmarshal(data, &i); err != nil {
		return nil, fmt.Errorf("%s: %w", d.path, err)
	}
	return &i, nil
}

// writeInfo is called before the directory gets its name.
func (d agentDir) writeInfo(i *info) error {
	data, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.path, infoName), data, 0o600)
}

// elsewhere reports whether the agent runs on another machine that shares
// this directory.
func (d agentDir) elsewhere() bool {
	i, err := d.readInfo()
	return err == nil && i.Machine != "" && facts.MachineID() != "" && i.Machine != facts.MachineID()
}

// lock takes the agent's lock, which says that it is alive, or being
// recovered. It fails with unix.EWOULDBLOCK while another process has it.
// Closing the file gives it back.
func (d agentDir) lock(how int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(d.path, lockName), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), how|unix.LOCK_NB); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// life is what the lock tells about an agent.
type life int

const (
	alive life = iota
	dead       // it has died and left the directory
	away       // there is no directory: it has ended, or never was
)

// look tells whether the agent lives. Those who only look share the lock, so
// that they do not take one another for an agent.
func (d agentDir) look() life {
	file, err := d.lock(unix.LOCK_SH)
	switch {
	case err == nil:
		file.Close()
		return dead
	case errors.Is(err, unix.EWOULDBLOCK):
		return alive
	}
	if _, err := os.Stat(d.path); errors.Is(err, os.ErrNotExist) {
		return away
	}
	return dead // without a lock file there is no agent
}

// remove removes the directory, by another name first, so that a crash in
// between leaves nothing that looks like an agent, and then the transfer's,
// when it was the last one.
func (d agentDir) remove() error {
	old := filepath.Join(filepath.Dir(d.path), oldPrefix+d.id)
	if err := os.Rename(d.path, old); err != nil {
		return err
	}
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	removeTransfer(filepath.Dir(d.path))
	return nil
}

// removeTransfer removes a transfer's directory, unless agents are in it or a
// prepare is about to make one.
func removeTransfer(path string) {
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && sameFile(dir, path) {
		os.Remove(path)
	}
}

// arriving is the directory's name before the agent is ready.
func (d agentDir) arriving() agentDir {
	return agentDir{id: d.id, path: filepath.Join(filepath.Dir(d.path), newPrefix+d.id)}
}

// discard removes what an agent has made that never got ready.
func (d agentDir) discard() {
	os.RemoveAll(d.arriving().path)
	os.RemoveAll(d.path)
}

// holdsManifest reports whether a manifest of what was read lies there, if only
// of a part of it.
func (d agentDir) holdsManifest() bool {
	spool, err := manifest.OpenPart(d.path, 1)
	if err != nil {
		return false
	}
	some := spool.Len() > 0
	return spool.Close() == nil && some
}

// lastWords is the end of what the runtime wrote when the agent crashed.
func (d agentDir) lastWords() string {
	file, err := os.Open(filepath.Join(d.path, crashName))
	if err != nil {
		return ""
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		file.Seek(max(0, size-crashTail), io.SeekStart)
	}
	data, _ := io.ReadAll(io.LimitReader(file, crashTail))
	return strings.ToValidUTF8(string(data), "?")
}

// lockTransfer makes the directory of a transfer and locks it, against other
// calls of prepare and against its removal. Closing the file unlocks it.
func lockTransfer(ctx context.Context, state *state, transfer string) (*os.File, error) {
	path := state.transferDir(transfer)
	for {
		if err := makePrivate(path); err != nil {
			return nil, err
		}
		dir, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(dir, path) {
			return dir, nil
		}
		dir.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, &sdk.Error{Kind: sdk.KindTimeout, Message: fmt.Sprintf("another prepare holds %s", path), Hint: "ask again with the same call"}
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sameFile reports whether path still leads to file.
func sameFile(file *os.File, path string) bool {
	a, err1 := file.Stat()
	b, err2 := os.Lstat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// sweepRests removes what crashes have left of directories on their way in or
// out: nothing in them is to be undone.
func sweepRests(state *state, transfer string) {
	path := state.transferDir(transfer)
	dir, err := os.Open(path)
	if err != nil {
		return
	}
	defer dir.Close()
	if unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return // a prepare is under way
	}
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), newPrefix) || strings.HasPrefix(e.Name(), oldPrefix) {
			os.RemoveAll(filepath.Join(path, e.Name()))
		}
	}
	if sameFile(dir, path) {
		os.Remove(path) // fails while agents are there
	}
}
