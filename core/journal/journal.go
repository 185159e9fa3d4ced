// Package journal keeps, on the control host's disk, what a transfer has
// acquired on other hosts and what is to be undone there: one file a
// transfer, written before the thing it tells of is done.
//
// A journal is a file ID.journal of JSON lines, 0600, in a directory closed
// to others. Its first line is the header; every further line is one Record.
// The process that runs the transfer holds an flock on the file for as long
// as it lives, so a journal without a lock belongs to nobody.
package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/core/agent/durable"
	"github.com/transferpy/transferpy/sdk"
)

// Version is the version of the file that is written. Those from oldest on are
// read, so that what an older program left can be ended; a newer one is
// refused, since leaving out what it tells could leave out an undo.
const (
	Version = 2
	oldest  = 1 // has neither plans nor failures: nothing in it can be attached to
)

const suffix = ".journal"

// Header is the first line: what was asked for, by whom and when.
type Header struct {
	V        int       `json:"v"`
	Transfer string    `json:"transfer"`
	UID      int       `json:"uid"`
	PID      int       `json:"pid"` // of the process that made it
	Program  string    `json:"program,omitempty"`
	Created  time.Time `json:"created"`
	// Request is the transfer's request as its package stores it; no
	// secrets.
	Request json.RawMessage `json:"request"`
}

// Host is a host that the transfer touches: how to reach its agent again.
type Host struct {
	Executor string  `json:"executor"`
	Host     string  `json:"host"`
	Program  sdk.Raw `json:"program"`             // the agent's file there
	StateDir sdk.Raw `json:"state_dir,omitempty"` // where messages may be put
	Instance string  `json:"instance,omitempty"`
	Agent    string  `json:"agent,omitempty"` // once prepared
	// Skew is how far the host's clock is ahead of this host's.
	Skew time.Duration `json:"skew,omitempty"`
}

// Undo is an undo record that an agent was given.
type Undo struct {
	Host  string   `json:"host"`
	Agent string   `json:"agent"`
	Undo  sdk.Undo `json:"undo"`
	// Done is what later records tell: it has run. One that ran when nobody
	// was listening is not Done here.
	Done bool `json:"-"`
}

// Done says that an agent has run an undo.
type Done struct {
	Agent string `json:"agent"`
	ID    string `json:"id"` // of the undo
}

// Kept says that every agent has ended, and that what targets without a copy
// had received was left where it is, for the transfer to be resumed.
type Kept struct {
	Time    time.Time `json:"time"`
	Members []string  `json:"members"` // the targets without a copy
}

// Resumed says that the transfer goes on, for these targets. Nothing is known
// any more of how it ended before, and what was kept is in use.
type Resumed struct {
	Time    time.Time `json:"time"`
	Members []string  `json:"members"`
}

// Failure says that a target can no longer succeed.
type Failure struct {
	Member string     `json:"member"`
	Error  *sdk.Error `json:"error"`
}

// Stopping says that the transfer has been given up and is being undone, why,
// and with which exit code.
type Stopping struct {
	Time     time.Time  `json:"time"`
	ExitCode int        `json:"exit_code"`
	Error    *sdk.Error `json:"error,omitempty"`
}

// Detached says that the last owner has left the transfer to its agents.
type Detached struct {
	Time time.Time `json:"time"`
}

// Outcome is how the transfer ended.
type Outcome struct {
	ExitCode int             `json:"exit_code"`
	Error    *sdk.Error      `json:"error,omitempty"`
	Report   json.RawMessage `json:"report,omitempty"` // as its package stores it
}

// Owner is a process that has taken the journal, with the control generation
// that it speaks with.
type Owner struct {
	PID        int       `json:"pid"`
	Generation uint64    `json:"generation"`
	Time       time.Time `json:"time"`
}

// Record is one line after the header. Exactly one field is set.
type Record struct {
	Owner *Owner `json:"owner,omitempty"`
	Hosts []Host `json:"hosts,omitempty"` // replaces those of the same name
	Undo  *Undo  `json:"undo,omitempty"`
	Done  *Done  `json:"done,omitempty"`
	Phase string `json:"phase,omitempty"`
	// Plan is what the agents are to do, as its package stores it: from here
	// on another process can take the transfer over. No secrets.
	Plan     json.RawMessage `json:"plan,omitempty"`
	Failed   []Failure       `json:"failed,omitempty"`
	Stopping *Stopping       `json:"stopping,omitempty"`
	Detached *Detached       `json:"detached,omitempty"`
	// Committed are targets that have said that they are published.
	Committed []string `json:"committed,omitempty"`
	Outcome   *Outcome `json:"outcome,omitempty"`
	Kept      *Kept    `json:"kept,omitempty"`
	Resumed   *Resumed `json:"resumed,omitempty"`
	Hole      *Hole    `json:"hole,omitempty"` // replaces the one of the same agent
	// Ended says that nothing of the transfer is left on any host.
	Ended bool `json:"ended,omitempty"`
}

// Journal is an open journal whose lock this process holds. Its methods may
// be called from several goroutines at once.
type Journal struct {
	path string

	mu    sync.Mutex
	file  *os.File
	state *State
}

// Create makes the journal of a new transfer, takes its lock and writes the
// header and the first owner, generation 1. It fails with sdk.KindExists if
// the transfer has a journal already. The caller closes the journal.
func Create(dir, id, program string, request json.RawMessage) (*Journal, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if err := MakeDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, id+suffix)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fileError(path, "create the journal", err)
	}
	j := &Journal{path: path, file: file, state: &State{Header: Header{
		V: Version, Transfer: id, UID: os.Getuid(), PID: os.Getpid(), Program: program,
		Created: time.Now().UTC(), Request: request,
	}}}
	if err := j.begin(dir); err != nil {
		file.Close()
		os.Remove(path)
		return nil, fileError(path, "begin the journal", err)
	}
	return j, nil
}

func (j *Journal) begin(dir string) error {
	if err := lock(j.file); err != nil {
		return err
	}
	line, err := encodeLine(j.state.Header)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(line); err != nil {
		return err
	}
	if err := j.Add(Record{Owner: &Owner{PID: os.Getpid(), Generation: 1, Time: time.Now().UTC()}}); err != nil {
		return err
	}
	return durable.Dir(dir)
}

// Takeover opens the journal of a transfer whose process has died, takes its
// lock, cuts off a torn last line and raises the control generation. It is
// refused while a living process holds the lock (sdk.KindExists, naming its
// pid) and where the file belongs to another user.
func Takeover(dir, id string) (*Journal, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, id+suffix)
	file, err := openOwned(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	j := &Journal{path: path, file: file}
	if err := j.takeover(id); err != nil {
		file.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) takeover(id string) error {
	locked := lock(j.file)
	for try := 0; try < 4 && errors.Is(locked, syscall.EWOULDBLOCK); try++ {
		time.Sleep(20 * time.Millisecond) // a reader's short look looks like an owner
		locked = lock(j.file)
	}
	state, whole, err := decode(j.file)
	if errors.Is(locked, syscall.EWOULDBLOCK) {
		return heldError(id, state)
	}
	if locked != nil {
		return fileError(j.path, "lock the journal", locked)
	}
	if err != nil {
		return decodeError(j.path, err)
	}
	if state.Header.Transfer != id {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the journal %s is that of transfer %q", j.path, state.Header.Transfer),
			Hint: "it was renamed; give it its own name again"}
	}
	j.state = state
	if err := j.file.Truncate(whole); err != nil {
		return fileError(j.path, "cut off the torn line of the journal", err)
	}
	if _, err := j.file.Seek(whole, io.SeekStart); err != nil {
		return fileError(j.path, "go to the end of the journal", err)
	}
	return j.Add(Record{Owner: &Owner{PID: os.Getpid(), Generation: state.Generation() + 1, Time: time.Now().UTC()}})
}

// Add appends a record and returns when it is on disk. What the record tells
// of must not be done before.
func (j *Journal) Add(r Record) error {
	line, err := encodeLine(r)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return fileError(j.path, "write the journal", fs.ErrClosed)
	}
	if err := j.state.apply(r); err != nil {
		return err
	}
	if err := j.append(line); err != nil {
		return fileError(j.path, "write the journal", err)
	}
	return nil
}

// append writes a line and syncs it. Half a line of a full disk is cut off
// again, so that what is written later is not taken for its end.
func (j *Journal) append(line []byte) error {
	at, err := j.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(line); err != nil {
		j.file.Truncate(at)
		return err
	}
	return j.file.Sync()
}

// State returns what the journal tells so far; a copy of its top level, whose
// slices must not be changed.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := *j.state
	s.Hosts = append([]Host(nil), s.Hosts...)
	s.Undos = append([]Undo(nil), s.Undos...)
	s.Holes = append([]Hole(nil), s.Holes...)
	s.Committed = append([]string(nil), s.Committed...)
	s.Failed = append([]Failure(nil), s.Failed...)
	return s
}

// Close releases the lock. The file stays: it is the record of the transfer.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}

// lock takes the flock without waiting. It goes with the open file, so it
// ends with the process however that ends.
func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func encodeLine(v any) ([]byte, error) {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		return nil, fmt.Errorf("encode a line of the journal: %w", err)
	}
	if b.Len() > maxLine {
		return nil, fmt.Errorf("a line of the journal would have %d bytes; %d are allowed", b.Len(), maxLine)
	}
	return b.Bytes(), nil
}

// Read reads a journal without taking its lock. Held says whether a living
// process holds it.
func Read(dir, id string) (state State, held bool, err error) {
	if err := checkID(id); err != nil {
		return State{}, false, err
	}
	path := filepath.Join(dir, id+suffix)
	file, err := openOwned(path, os.O_RDONLY)
	if err != nil {
		return State{}, false, err
	}
	defer file.Close()
	held = errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
	s, _, err := decode(bufio.NewReader(file))
	if err != nil {
		return State{}, held, decodeError(path, err)
	}
	return *s, held, nil
}
