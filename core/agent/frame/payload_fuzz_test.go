package frame

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

// FuzzPayload: what is understood of a payload is the same bytes when it is
// encoded again.
func FuzzPayload(f *testing.F) {
	f.Add(PassEnd{Entries: 3, Files: 2, Bytes: 1}.Append(nil))
	f.Add(Ack(1, 7, 5).Payload())
	f.Add(AppendFileDigest(nil, FileDigest{Entry: 1}))
	f.Add(bytes.Repeat([]byte{7}, gapLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParsePassEnd(b); err == nil && !bytes.Equal(e.Append(nil), b) {
			t.Fatal("a pass end encodes to other bytes")
		}
		if have, next, err := ParseAck(b); err == nil && (next > have || !bytes.Equal(Ack(0, have, next).Payload(), b)) {
			t.Fatal("an ack encodes to other bytes, or acknowledges what has not come")
		}
		if g, err := ParseGap(b); err == nil {
			again, err := g.Build(Scope{}, func([]byte) []byte { return b[gapLen-ed25519.SignatureSize:] })
			if err != nil || !bytes.Equal(again.Payload(), b) {
				t.Fatal("a gap encodes to other bytes")
			}
		}
		if list, err := FileDigests(b); err == nil {
			var again []byte
			for _, d := range list {
				again = AppendFileDigest(again, d)
			}
			if !bytes.Equal(again, b) {
				t.Fatal("digests encode to other bytes")
			}
		}
	})
}
