package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// keptState is what a target says of an earlier attempt: how many of its
// entries it knows of by that attempt's last checkpoint. Entries have the same
// numbers in the source's spool of that attempt.
type keptState struct {
	Attempt string `json:"attempt"`
	Entries uint64 `json:"entries"`
}

// inherited is what earlier attempts have left of a target. Nothing in it is
// believed: what is taken over is read back in the end, and compared with what
// the source says of its files now. For one goroutine, but for has.
type inherited struct {
	attempts []*attempt // the newest first
	taken    numbers    // entries of this attempt whose files were taken over
}

// attempt is one of them.
type attempt struct {
	data *tree.Sink
	// What it had, by its last checkpoint; nil: nobody can tell.
	spool  *manifest.Spool
	lookup *manifest.Lookup
	check  *checkpoint
	file   *os.File // of the checkpoint
}

// openInherited opens what there is. What cannot be read is of no use, and no
// error; warn is told why.
func openInherited(st *staging.Staging, o tree.SinkOptions, warn func(error)) *inherited {
	h := &inherited{}
	kept, err := st.Kept()
	if err != nil {
		warn(err)
	}
	for _, k := range kept {
		data, err := tree.NewSink(k.Data, o)
		k.Data.Close()
		if err != nil {
			warn(err)
			continue
		}
		a := &attempt{data: data}
		if err := a.open(k.MetaPath); err != nil {
			warn(err)
		}
		h.attempts = append(h.attempts, a)
	}
	return h
}

// open reads the checkpoint and the spool that it is about.
func (a *attempt) open(dir string) error {
	f, err := os.Open(filepath.Join(dir, checkpointName))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it ended before it had one
	}
	if err != nil {
		return err
	}
	check, err := readCheckpointFile(f)
	if err == nil {
		a.spool, err = manifest.OpenPart(dir, check.entries)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if a.spool.Header().DigestRule != manifest.RuleBLAKE3 {
		return errors.Join(a.spool.Close(), f.Close()) // without digests nothing is proven
	}
	a.check, a.file, a.lookup = check, f, manifest.NewLookup(a.spool, dir)
	return nil
}

func readCheckpointFile(f *os.File) (*checkpoint, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return readCheckpoint(f, info.Size())
}

// useless reports whether no attempt can tell what it had.
func (h *inherited) useless() bool {
	return !slices.ContainsFunc(h.attempts, func(a *attempt) bool { return a.check != nil })
}

// states is what the source is told.
func (h *inherited) states() []keptState {
	var list []keptState
	for _, a := range h.attempts {
		if a.check != nil && a.spool.Header().Attempt != "" {
			list = append(list, keptState{a.spool.Header().Attempt, min(a.spool.Len(), a.check.entries)})
		}
	}
	return list
}

// holding is what an earlier attempt had of a file.
type holding struct {
	partial
	whole  bool
	digest manifest.Digest
}

// take takes over the file of an entry, if an earlier attempt had some of it;
// nil if none had, or the file is not what it was. Then what lies in its place
// is removed at once: the room is needed for what comes.
func (h *inherited) take(disk *tree.Sink, number uint64, e *manifest.Entry) (*holding, error) {
	for _, a := range h.attempts {
		had, err := a.holdingOf(e)
		if err != nil {
			return nil, err
		}
		if had == nil {
			continue
		}
		if ok, err := h.adopt(disk, e); err != nil {
			return nil, err
		} else if ok {
			h.taken.add(number)
			return had, nil
		}
		break
	}
	for _, a := range h.attempts {
		a.data.Discard(e)
	}
	return nil, nil
}

// adopt moves the file from wherever it lies: an attempt in between may have
// taken it over itself, and ended before it had a checkpoint.
func (h *inherited) adopt(disk *tree.Sink, e *manifest.Entry) (bool, error) {
	for _, from := range h.attempts {
		if ok, err := disk.Adopt(from.data, e); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// holdingOf looks into the checkpoint. A file of another size, or changed since,
// is another file: what comes of it is wanted.
func (a *attempt) holdingOf(e *manifest.Entry) (*holding, error) {
	if a.lookup == nil {
		return nil, nil
	}
	n, old, found, err := a.lookup.Find(e.Path)
	if err != nil || !found || !manifest.HasContent(&old) || old.Size != e.Size || old.MTimeSec != e.MTimeSec || old.MTimeNsec != e.MTimeNsec {
		return nil, nil // a damaged spool proves nothing
	}
	had := &holding{}
	if had.digest, err = a.spool.Digest(n); err != nil {
		return nil, nil
	}
	part, listed, err := a.check.find(n)
	if err != nil || listed && part.pieces != digest.Pieces(e.Size) {
		return nil, nil
	}
	had.partial, had.whole = part, !listed
	if listed && !slices.ContainsFunc(part.have, func(word uint64) bool { return word != 0 }) {
		return nil, nil
	}
	return had, nil
}

func (h *inherited) has(number uint64) bool { return h != nil && h.taken.has(number) }

// some reports whether anything was taken over.
func (h *inherited) some() bool { return h != nil && h.taken.count > 0 }

// close gives up what was not taken over.
func (h *inherited) close() {
	for _, a := range h.attempts {
		a.data.Close()
		if a.lookup != nil {
			_ = errors.Join(a.lookup.Close(), a.spool.Close(), a.file.Close()) // they were only read
		}
	}
	h.attempts = nil
}

// inherit takes over what an earlier attempt had of an entry's file, and reports
// whether there is any.
func (s *treeSink) inherit(number uint64, e *manifest.Entry) (bool, error) {
	if len(s.kept.attempts) == 0 {
		return false, nil
	}
	had, err := s.kept.take(s.disk, number, e)
	if err != nil || had == nil {
		return false, err
	}
	if had.digest.State == manifest.DigestOK && had.digest.Size == e.Size {
		had.digest.State = manifest.DigestKept
		if err := s.spool.SetDigest(number, had.digest); err != nil {
			return false, err
		}
	}
	return true, s.files.inherit(number, *e, had)
}

// inherit books a file that was taken over; what it lacks is missing.
func (s *files) inherit(number uint64, e manifest.Entry, had *holding) error {
	in := whole(number, e)
	s.mu.Lock()
	s.expected++
	s.mu.Unlock()
	s.meter.files.Add(1)
	s.meter.bytes.Add(e.Size)
	if had.whole {
		return nil
	}
	var lacks []uint64
	for p := range in.pieces() {
		if had.have[p/64]&(1<<(p%64)) == 0 {
			lacks = append(lacks, p)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return s.reopen(number, e, lacks...)
}

// disown gives up what was taken over of a file, which is another by now.
func (s *treeSink) disown(number uint64) error {
	e, err := s.spool.Entry(number)
	if err != nil {
		return err
	}
	var all []uint64
	for p := range digest.Pieces(e.Size) {
		all = append(all, p)
	}
	return s.files.reopen(number, e, all...)
}
