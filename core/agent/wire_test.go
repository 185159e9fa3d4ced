package agent

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/sdk"
)

// tamper sits between two members whose data connections are plain and hands
// the n-th frame of each to change, which returns what goes on instead.
func tamper(t *testing.T, port int, change func(n int, f *frame.Frame) [][]byte) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				in.Close()
				return
			}
			go func() { io.Copy(in, out); in.Close() }()
			go func() {
				defer out.Close()
				head := make([]byte, 1)
				if _, err := io.ReadFull(in, head); err != nil {
					return
				}
				out.Write(head)
				if head[0] != 'T' { // TLS passes untouched
					io.Copy(out, in)
					return
				}
				io.CopyN(out, in, 3+32) // the rest of the mark, and the token
				for n := 0; ; n++ {
					f, err := frame.Read(in, func(n int) []byte { return make([]byte, n) })
					if err != nil {
						return
					}
					if f.Type == frame.TypeHeartbeat {
						n--
					}
					for _, b := range change(n, f) {
						if b == nil {
							return
						}
						if _, err := out.Write(b); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port
}

func TestTamperedWire(t *testing.T) {
	src := content(t)
	pass := func(f *frame.Frame) [][]byte { return [][]byte{f.Wire()} }
	flip := func(f *frame.Frame, at int) [][]byte { f.Wire()[at] ^= 0x10; return pass(f) }
	cases := map[string]func(n int, f *frame.Frame) [][]byte{
		"a byte of content": func(n int, f *frame.Frame) [][]byte {
			if f.Type == frame.TypeData && len(f.Payload()) > 1000 {
				return flip(f, len(f.Wire())-500)
			}
			return pass(f)
		},
		"an offset": func(n int, f *frame.Frame) [][]byte {
			if f.Type == frame.TypeData {
				return flip(f, frame.HeaderLen+8+5)
			}
			return pass(f)
		},
		"an entry": func(n int, f *frame.Frame) [][]byte {
			if f.Type == frame.TypeEntries {
				return flip(f, len(f.Wire())-3)
			}
			return pass(f)
		},
		"a frame dropped": func(n int, f *frame.Frame) [][]byte {
			if n == 3 {
				return [][]byte{}
			}
			return pass(f)
		},
		"a frame repeated": func(n int, f *frame.Frame) [][]byte {
			if n == 3 {
				return [][]byte{f.Wire(), f.Wire()}
			}
			return pass(f)
		},
		"cut before the end": func(n int, f *frame.Frame) [][]byte {
			if f.Type == frame.TypePassEnd {
				return [][]byte{nil}
			}
			return pass(f)
		},
		"the last signature missing": func(n int, f *frame.Frame) [][]byte {
			if f.Type == frame.TypeSegmentEnd {
				return [][]byte{nil}
			}
			return pass(f)
		},
		"a signature": func(n int, f *frame.Frame) [][]byte {
			if f.Type == frame.TypeSegmentEnd {
				return flip(f, len(f.Wire())-10)
			}
			return pass(f)
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			wantCut := name == "cut before the end" || name == "the last signature missing"
			r := newRig(t, src, 2, func(p *control.Start) {
				p.Settings.Encrypt, p.Settings.Verify = false, control.VerifySigned
				p.Settings.RetryFor = time.Minute // the target is to say what is wrong first
				if wantCut {
					p.Settings.RetryFor = time.Second // it will be cut again and again
				}
				p.Members[1].Port = tamper(t, p.Members[1].Port, change)
			})
			r.start()
			all := r.settled()
			for _, n := range []string{"target-1", "target-2"} {
				m := all[n]
				if wantCut && n == "target-2" { // the source sends to it, past the first
					if m.Error != nil {
						t.Errorf("%s: %v", n, m.Error)
					}
					continue
				}
				if m.Phase != control.PhaseFailed || m.Error == nil {
					t.Fatalf("%s took it: %+v", n, m)
				}
				t.Log(m.Error)
				if n == "target-1" && !wantCut && m.Error.Kind != sdk.KindIntegrity {
					t.Errorf("kind %q, want integrity", m.Error.Kind)
				}
				if n == "target-1" && name == "a byte of content" && !strings.Contains(m.Error.Message, " in tree/") {
					t.Error("the file is not named")
				}
			}
			if err := r.jobs[1].Commit(t.Context(), []string{"target-1"}); err == nil {
				t.Error("a failed target was committed")
			}
			for _, dir := range r.dirs {
				if _, err := os.Lstat(filepath.Join(dir, "tree")); err == nil {
					t.Errorf("published in %s", dir)
				}
			}
		})
	}
}
