package ssh

import (
	"bytes"
	"fmt"
	"testing"
)

const testMark = "00112233445566778899aabbccddeeff"

// FuzzCapture holds that output comes back whole behind any noise, however
// the stream is cut into pieces, and that no pieces panic.
func FuzzCapture(f *testing.F) {
	f.Add([]byte("Welcome\n"), []byte("out"), 7)
	f.Add([]byte(testMark+" 1\n"+testMark+" x"), []byte(testMark+" 3\n"), 1)
	f.Add(bytes.Repeat([]byte("noise\n"), 20_000), []byte{}, 4096)
	f.Fuzz(func(t *testing.T, noise, out []byte, piece int) {
		if bytes.Contains(noise, []byte(testMark)) {
			c := newCapture(testMark)
			c.Write(noise)
			return
		}
		c := newCapture(testMark)
		stream := fmt.Appendf(bytes.Clone(noise), "%s 4711\n%s", testMark, out)
		for len(stream) > 0 {
			n := min(max(1, piece), len(stream))
			c.Write(stream[:n])
			stream = stream[n:]
		}
		got := c.snapshot()
		if got.pid != 4711 || !bytes.Equal(got.out, out[:min(len(out), maxOutput)]) || got.cut != (len(out) > maxOutput) {
			t.Fatalf("pid %d, %d bytes of %d, cut %v", got.pid, len(got.out), len(out), got.cut)
		}
	})
}
