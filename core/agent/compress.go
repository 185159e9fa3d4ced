package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
)

// startRung is where auto begins on its ladder: minlz.
const startRung = 1

// compressor decides for each frame, before its content is read, with which
// codec it is tried. Safe for concurrent use.
type compressor struct {
	fixed  codec.Codec   // nil: the rung's
	ladder []codec.Codec // of auto
	rung   atomic.Int32
	coding atomic.Int64 // nanoseconds that workers have spent compressing

	records *codec.Attempts // of entries
	small   *codec.Attempts // of frames of many files
	mu      sync.Mutex
	entry   uint64 // whose pieces large is about
	large   *codec.Attempts
}

// newCompressor makes the compressor that the settings ask for.
func newCompressor(s control.Settings) (*compressor, error) {
	c := &compressor{records: &codec.Attempts{}, small: &codec.Attempts{}, large: &codec.Attempts{}}
	if s.Codec == codec.NameAuto {
		c.ladder = codec.Ladder()
		c.rung.Store(startRung)
		return c, nil
	}
	var err error
	c.fixed, err = codec.ByName(s.Codec, s.CodecLevel)
	return c, err
}

// of returns what is known of the pieces of one entry. What is known of the
// file before it is where it begins.
func (c *compressor) of(entry uint64) *codec.Attempts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if entry != c.entry {
		c.entry, c.large = entry, c.large.Next()
	}
	return c.large
}

// alike returns what is known of frames like one of this type and content.
func (c *compressor) alike(t frame.Type, extents []frame.Extent) *codec.Attempts {
	switch {
	case t != frame.TypeData:
		return c.records
	case len(extents) == 1:
		return c.of(extents[0].Entry)
	}
	return c.small
}

// choose returns the codec for the next frame of a kind, nil to store it. A
// codec that somebody has named is tried on every frame.
func (c *compressor) choose(a *codec.Attempts) codec.Codec {
	if c.fixed != nil {
		if c.fixed.ID() == codec.Stored {
			return nil
		}
		return c.fixed
	}
	if now := c.ladder[c.rung.Load()]; a.Try(now.ID()) {
		return now
	}
	return nil
}

// encode compresses content into dst's memory, or new memory where that is
// too small, and reports whether that is worth sending.
func (c *compressor) encode(with codec.Codec, a *codec.Attempts, dst, content []byte) ([]byte, bool) {
	began := time.Now()
	out := with.Encode(dst, content)
	c.coding.Add(int64(time.Since(began)))
	saved := codec.Saves(len(content), len(out))
	a.Note(with.ID(), saved)
	return out, saved
}
