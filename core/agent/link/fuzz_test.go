package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// FuzzMessage: no message is longer than its bound, whatever its head says, and
// one that is understood is the same when it is written again.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Add([]byte("\x00\x00\x00\x09[1,2,\"x\"]more"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var v json.RawMessage
		if err := readMessage(bytes.NewReader(data), &v); err != nil {
			return
		}
		var b bytes.Buffer
		if err := writeMessage(&b, v); err != nil {
			t.Fatal(err)
		}
		var again json.RawMessage
		if err := readMessage(&b, &again); err != nil || !bytes.Equal(v, again) {
			t.Fatalf("%q became %q, %v", v, again, err)
		}
	})
}

// FuzzStranger: whatever somebody without a key or a token says first, nothing
// is proven, and it ends.
func FuzzStranger(f *testing.F) {
	id, err := NewIdentity()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(plainMark + "0123456789abcdef0123456789abcdef"))
	f.Add([]byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	f.Add([]byte("GET / HTTP/1.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		a := &Acceptor{Identity: id, Transfer: "T", Known: func(string) bool { return false }, Fingerprint: func(string) string { return "" },
			Check: func(Hello) error { return errors.New("nobody is expected") }}
		here, there := net.Pipe()
		here.SetDeadline(time.Now().Add(Handshake))
		there.SetDeadline(time.Now().Add(Handshake))
		heard := make(chan struct{})
		go func() { io.Copy(io.Discard, there); close(heard) }()
		go func() { there.Write(said); there.Close() }()
		conn, err := a.prove(t.Context(), here)
		here.Close()
		<-heard
		if conn != nil || err == nil {
			t.Fatalf("%q proved to be somebody", said)
		}
	})
}
