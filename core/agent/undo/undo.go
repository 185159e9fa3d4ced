// Package undo keeps, on disk, how the changes that an agent makes on its
// host are taken back: each record is fsynced before its change is made, and
// replayed, last in first out, until its done mark is on disk.
package undo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/durable"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/sdk"
)

// FileName is the log's name in the agent's directory.
const FileName = "undo.jsonl"

// Bounds of a log. Both are far above what a transfer needs; they keep a
// broken or hostile caller, or file, from eating memory and disk.
const (
	maxRecords = 10000
	maxLine    = 17 << 20 // a control message with its quotes
)

// Record is one deferred undo.
type Record struct {
	sdk.Undo
	// Settle, if set, names a target's staging directory: a committed one is
	// rolled forward, any other is removed. It comes before the commands.
	Settle *staging.Spec `json:"settle,omitempty"`
}

// Log is the undo log of one agent. Its methods may be called from several
// goroutines at once; only one process may have a log open (the agent's lock
// sees to that).
type Log struct {
	running chan struct{} // holds one token while a Run is under way

	mu      sync.Mutex
	file    *os.File
	entries []*entry // in the order of Defer
	byID    map[string]*entry
	damage  error // a failed write or fsync: what follows it cannot be trusted
}

// entry is a record and what became of it.
type entry struct {
	Record
	done bool
	err  *sdk.Error    // of the last attempt
	at   time.Time     // when it was deferred by this process; zero: by one before
	held time.Duration // from then until it was done
}

// Open opens the log in dir, making it if there is none. A last line that was
// cut short by a crash is dropped: its change was never made. The caller
// closes the log.
func Open(dir string) (*Log, error) {
	path := filepath.Join(dir, FileName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the undo log: %w", err)
	}
	l := &Log{running: make(chan struct{}, 1), file: file, byID: map[string]*entry{}}
	if err := l.load(); err != nil {
		file.Close()
		return nil, fmt.Errorf("undo log %s: %w", path, err)
	}
	if err := durable.Dir(dir); err != nil {
		file.Close()
		return nil, fmt.Errorf("undo log %s: %w", path, err)
	}
	return l, nil
}

// Close closes the file; the log must not be used any more.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Defer adds a record and returns when it is on disk; only then may its
// change be made. The same ID again adds nothing. An ID whose undo has run is
// refused, since nothing would take the change back a second time.
func (l *Log) Defer(rec Record) error {
	if rec.ID == "" {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "an undo has no ID: " + rec.What}
	}
	if rec.When != sdk.WhenSourceDone && rec.When != sdk.WhenEnd {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("undo %q is due at an unknown moment: %q", rec.ID, rec.When)}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.byID[rec.ID]; e != nil {
		if e.done {
			return &sdk.Error{Kind: sdk.KindExists, Message: fmt.Sprintf("undo %q has run already", rec.ID), Hint: "a change that is made again needs an undo with an ID of its own"}
		}
		return nil
	}
	if len(l.entries) >= maxRecords {
		return &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("more than %d undos in one agent", maxRecords)}
	}
	if err := l.append(line{Defer: &rec}); err != nil {
		return err
	}
	l.add(rec).at = time.Now()
	return nil
}

// MarkDone puts a done mark on disk: the undo is not needed any more, or has
// run. Marking again does nothing.
func (l *Log) MarkDone(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byID[id]
	if e == nil {
		return &sdk.Error{Kind: sdk.KindNotFound, Message: fmt.Sprintf("there is no undo %q", id)}
	}
	if e.done {
		return nil
	}
	if err := l.append(line{Done: id}); err != nil {
		return err
	}
	e.done, e.err = true, nil
	if !e.at.IsZero() {
		e.held = time.Since(e.at)
	}
	return nil
}

// ErrKept is what an undo returns that is to stay for later, though nothing is
// wrong with it: what it would remove is kept.
var ErrKept = errors.New("kept")

// Run calls do for every record that is due and not done, the last first,
// and puts a done mark on disk after each success. One that fails does not
// stop the others and stays to be done, as does one that returns ErrKept. It returns the failures joined, and
// when ctx ends, without the rest. Only one Run is under way at a time; a
// second one waits for the first.
func (l *Log) Run(ctx context.Context, due func(Record) bool, do func(context.Context, Record) error) error {
	select {
	case l.running <- struct{}{}:
		defer func() { <-l.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var failures []error
	for _, e := range l.pending() {
		if !due(e.Record) || l.isDone(e) {
			continue
		}
		if err := ctx.Err(); err != nil {
			failures = append(failures, fmt.Errorf("%s: not undone: %w", e.What, err))
			continue
		}
		err := do(ctx, e.Record)
		if err == ErrKept {
			continue
		}
		if err == nil {
			err = l.MarkDone(e.ID)
		}
		if err != nil {
			l.setError(e, err)
			failures = append(failures, fmt.Errorf("%s: not undone: %w", e.What, err))
		}
	}
	return errors.Join(failures...)
}

// Pending is the number of records that are not done.
func (l *Log) Pending() int { return len(l.pending()) }

// Due is the number of records that are not done and due at that moment.
func (l *Log) Due(when sdk.When) int {
	n := 0
	for _, e := range l.pending() {
		if e.When == when {
			n++
		}
	}
	return n
}

// Status lists all records with what became of them, the newest last.
func (l *Log) Status() []control.UndoStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]control.UndoStatus, 0, len(l.entries))
	for _, e := range l.entries {
		list = append(list, control.UndoStatus{ID: e.ID, What: e.What, Done: e.done, Error: e.err, Held: e.held})
	}
	return list
}

// pending returns the entries that are not done, the last first.
func (l *Log) pending() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*entry
	for i := len(l.entries) - 1; i >= 0; i-- {
		if !l.entries[i].done {
			list = append(list, l.entries[i])
		}
	}
	return list
}

func (l *Log) isDone(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return e.done
}

func (l *Log) setError(e *entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.err = sdk.AsError(err)
}

func (l *Log) add(rec Record) *entry {
	e := &entry{Record: rec}
	l.entries = append(l.entries, e)
	l.byID[rec.ID] = e
	return e
}
