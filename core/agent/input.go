package agent

import (
	"context"
	"runtime"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
)

// input is what a source reads: a tree, or a stream.
type input struct {
	stream *streamReader // nil for a tree
	src    *tree.Source  // nil for a stream: that can be read once
	read   func(ctx context.Context, emit func(context.Context, *parcel) error) error
	close  func()
}

// open opens the read stage.
func (s *source) open(ctx context.Context, r *reading) (*input, error) {
	spool := r.spool
	stage := s.chain.plan.Read
	if s.chain.stream() {
		r, err := s.openStream(ctx, stage)
		if err != nil {
			return nil, err
		}
		return &input{stream: r, close: r.close, read: func(ctx context.Context, emit func(context.Context, *parcel) error) error {
			return r.read(ctx, spool, emit)
		}}, nil
	}
	src, err := tree.OpenSource(stage.Path)
	if err != nil {
		return nil, err
	}
	w := &walker{src: src, spool: spool, proven: r.proven, nodes: r.nodes, meter: s.meter, reads: s.reads}
	return &input{src: src, close: func() { src.Close() }, read: func(ctx context.Context, emit func(context.Context, *parcel) error) error {
		w.emit = emit
		err := w.walk(ctx)
		s.meter.warn(src.Warnings()...)
		return err
	}}, nil
}

// workers is how many goroutines read, hash and compress, or decompress and
// write: one for each core, and some that wait for the disk.
func workers() int { return runtime.GOMAXPROCS(0) + 2 }

// header begins the manifests of this attempt.
func (c *chain) header(transfer string) manifest.Header {
	return manifest.Header{Transfer: transfer, DigestRule: c.rule(), Attempt: c.plan.Members[0].Agent}
}

// rule is the digest rule of the manifests.
func (c *chain) rule() string {
	if c.digests() {
		return manifest.RuleBLAKE3
	}
	return manifest.RuleNone
}
