package frame

import (
	"bytes"
	"testing"
)

// FuzzPayload: what is understood of a payload is the same bytes when it is
// encoded again.
func FuzzPayload(f *testing.F) {
	f.Add(PassEnd{Entries: 3, Files: 2, Bytes: 1}.Append(nil))
	f.Add(Ack(1, 7, 5).Payload())
	f.Add(AppendFileDigest(nil, FileDigest{Entry: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParsePassEnd(b); err == nil && !bytes.Equal(e.Append(nil), b) {
			t.Fatal("a pass end encodes to other bytes")
		}
		if have, next, err := ParseAck(b); err == nil && (next > have || !bytes.Equal(Ack(0, have, next).Payload(), b)) {
			t.Fatal("an ack encodes to other bytes, or acknowledges what has not come")
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
