package codec

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// zstandard encodes frames with klauspost's fastest level.
type zstandard struct{}

// The encoder and the decoder are made at their first use and shared: their
// one-shot methods may be called at once, and each keeps a few states that
// are worth reusing. They own no goroutines while only these are used.
var (
	zstdEncoder = sync.OnceValue(func() *zstd.Encoder {
		e, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderCRC(false), // segments are signed
			zstd.WithSingleSegment(true),
			zstd.WithWindowSize(1<<20))
		if err != nil {
			panic("codec: zstd: " + err.Error())
		}
		return e
	})
	zstdDecoder = sync.OnceValue(func() *zstd.Decoder {
		d, err := zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(0), // one for each processor
			zstd.WithDecoderMaxMemory(MaxRaw),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic("codec: zstd: " + err.Error())
		}
		return d
	})
)

func (zstandard) ID() ID { return Zstd }

func (zstandard) Encode(dst, src []byte) []byte {
	return zstdEncoder().EncodeAll(src, dst[:0])
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
