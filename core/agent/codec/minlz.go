package codec

import (
	"errors"
	"fmt"

	"github.com/minio/minlz"
)

// minLZLevels are the library's names of our levels. The first outruns TLS on
// one core.
var minLZLevels = [Levels]int{minlz.LevelSuperFast, minlz.LevelFastest, minlz.LevelBalanced}

// minLZ encodes blocks with one of the library's levels.
type minLZ struct{ level int }

func (minLZ) ID() ID { return MinLZ }

func (c minLZ) Encode(dst, src []byte) []byte {
	out, err := minlz.Encode(grow(dst, minlz.MaxEncodedLen(len(src))), src, c.level)
	if err != nil {
		// Only a block above MaxRaw or an unknown level does this, which is
		// a mistake of ours: no frame is that long.
		panic("codec: minlz: " + err.Error())
	}
	return out
}

func (minLZ) Decode(dst, src []byte, rawLen int) ([]byte, error) {
	if err := checkRaw(rawLen); err != nil {
		return nil, err
	}
	// The block names its own length; look before memory is made for it.
	// The library would also take Snappy blocks, which we never make.
	ok, n, err := minlz.IsMinLZ(src)
	switch {
	case err != nil:
		return nil, fmt.Errorf("minlz: %w", err)
	case !ok:
		return nil, errors.New("minlz: not a MinLZ block")
	case n != rawLen:
		return nil, fmt.Errorf("minlz: block of %d bytes in a frame of %d", n, rawLen)
	}
	out, err := minlz.Decode(grow(dst, rawLen), src)
	if err != nil {
		return nil, fmt.Errorf("minlz: %w", err)
	}
	if len(out) != rawLen {
		return nil, fmt.Errorf("minlz: %d bytes in a frame of %d", len(out), rawLen)
	}
	return out, nil
}
