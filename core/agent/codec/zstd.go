package codec

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstandard encodes frames with one of zstdLevels.
type zstandard struct{ at int }

// zstdLevels are the library's names of our levels. Its best one keeps 36 MiB
// an encoder and is none of them.
var zstdLevels = [Levels]zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression}

// zstdParallel bounds the encoders and decoders that work at once, since each
// keeps memory: an encoder 2.6, 3.6 or 6.4 MiB by its level, a decoder 2.2.
// Whoever comes beyond them waits.
const zstdParallel = 8

// The encoders and the decoder are made at their first use and shared: their
// one-shot methods may be called at once, and each keeps a few states that
// are worth reusing. They own no goroutines while only these are used.
var (
	zstdEncoders = [Levels]func() *zstd.Encoder{newZstdEncoder(0), newZstdEncoder(1), newZstdEncoder(2)}
	zstdDecoder  = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(min(runtime.GOMAXPROCS(0), zstdParallel)),
			zstd.WithDecoderMaxMemory(MaxRaw),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("codec: zstd: " + err.Error())
		}
		return d
	})
)

func newZstdEncoder(at int) func() *zstd.Encoder {
	return sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstdLevels[at]),
			zstd.WithEncoderConcurrency(min(runtime.GOMAXPROCS(0), zstdParallel)),
			zstd.WithEncoderCRC(false), // segments are signed
			zstd.WithSingleSegment(true),
			zstd.WithWindowSize(1<<20))
		if err != nil {
			panic("codec: zstd: " + err.Error())
		}
		return e
	})
}

func (zstandard) ID() ID { return Zstd }

func (c zstandard) Encode(dst, src []byte) []byte {
	return zstdEncoders[c.at]().EncodeAll(src, dst[:0])
}

func (zstandard) Decode(dst, src []byte, rawLen int) ([]byte, error) {
	if err := checkRaw(rawLen); err != nil {
		return nil, err
	}
	// The capacity is the limit of what DecodeAll makes.
	out, err := zstdDecoder().DecodeAll(src, grow(dst, rawLen)[:0:rawLen])
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if len(out) != rawLen {
		return nil, fmt.Errorf("zstd: %d bytes in a frame of %d", len(out), rawLen)
	}
	return out, nil
}
