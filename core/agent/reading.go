package agent

import (
	"context"
	"errors"

	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
)

// reading is what the source reads from, and what it keeps of it, from pass 1
// to its release.
type reading struct {
	in     *input
	spool  *manifest.Spool
	nodes  *manifest.Nodes // nil where nobody digests
	proven *proven         // by earlier attempts
	end    *frame.PassEnd  // of pass 1, when it is over
	close  func()          // may be called again
}

// openReading makes the spool and opens the input.
func (s *source) openReading(ctx context.Context) (*reading, error) {
	dir := s.job.cfg.StateDir
	spool, err := manifest.Create(dir, s.chain.header(s.job.cfg.Transfer))
	if err != nil {
		return nil, err
	}
	r := &reading{spool: spool}
	if s.chain.digests() && !s.chain.stream() {
		if r.nodes, err = manifest.CreateNodes(dir); err != nil {
			return nil, errors.Join(err, spool.Close())
		}
	}
	if r.nodes != nil && s.job.cfg.Resume {
		r.proven = openProven(s.job.cfg.Kept, s.peers, s.job.cfg.Log)
	}
	closeSpool := func() {
		if r.proven != nil {
			r.proven.close()
		}
		_ = spool.Close() // flushed before, or of no use
		if r.nodes != nil {
			_ = r.nodes.Close()
		}
	}
	if r.in, err = s.open(ctx, r); err != nil {
		closeSpool()
		return nil, err
	}
	closed := false
	r.close = func() {
		if !closed {
			closed = true
			r.in.close()
			closeSpool()
		}
	}
	return r, nil
}

// flush has others see what pass 1 has written.
func (r *reading) flush() error {
	if r.nodes != nil {
		if err := r.nodes.Flush(); err != nil {
			return err
		}
	}
	return r.spool.Flush()
}

// rereadable reports whether the source can be read again.
func (r *reading) rereadable() bool { return r.in.src != nil }
