package agent

import (
	"os"
	"sync"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/pagecache"
)

// askAhead is how many pieces before they are read it is asked which of them
// are cached. Reading what somebody has read before makes the kernel go on
// with that one's readahead, of some MiB; what it brings in is not to be taken
// for cached by others.
const askAhead = 64

// lookahead knows which ranges of a file's pieces were not cached shortly
// before their turn. The zero value, or nil, knows nothing. Safe for
// concurrent use.
type lookahead struct {
	mu    sync.Mutex
	asked uint64 // the first piece that was not
	cold  map[uint64][]pagecache.Range
}

// ask asks about the pieces from next on that lie before end and not too far
// ahead.
func (a *lookahead) ask(f *os.File, size int64, next, end uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cold == nil {
		a.cold = make(map[uint64][]pagecache.Range)
	}
	for a.asked = max(a.asked, next); a.asked < min(next+askAhead, end); a.asked++ {
		off := int64(a.asked) * digest.PieceSize
		a.cold[a.asked] = pagecache.Cold(f, off, min(size-off, digest.PieceSize))
	}
}

// take returns what is known of a piece, once.
func (a *lookahead) take(piece uint64) (cold []pagecache.Range, known bool) {
	if a == nil {
		return nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	cold, known = a.cold[piece]
	delete(a.cold, piece)
	return cold, known
}
