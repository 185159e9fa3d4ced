package daemon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/listing"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// TestManifestInPieces: the source's agent hands out its manifest, from the
// end of reading on, and the same pieces as often as they are asked for.
func TestManifestInPieces(t *testing.T) {
	l := live(t, longLease)
	ask := func(at int64, agent string) control.Answer {
		return l.ask(&control.Request{Verb: control.VerbManifest, Call: "m", Wait: 20 * time.Second, Manifest: &control.Manifest{Agent: agent, Offset: at, Limit: 1000}})
	}
	if a := ask(0, "a1"); !errors.Is(a.Error, sdk.ErrUnsupported) {
		t.Errorf("before there was a plan: %+v", a)
	}
	l.phases(control.PhaseMoving)
	l.ask(&control.Request{Verb: control.VerbStart, Call: "s", Start: plan()})
	if a := ask(0, "a1"); !errors.Is(a.Error, sdk.ErrUnsupported) {
		t.Errorf("while it was read: %+v", a)
	}
	spool, err := manifest.Create(l.dir.path, manifest.Header{DigestRule: manifest.RuleBLAKE3})
	for i := 0; i < 1000 && err == nil; i++ {
		e := manifest.Entry{Path: sdk.Raw(fmt.Sprintf("name-%x", digest.Of([]byte{byte(i), byte(i >> 8)}))), Type: sdk.FileFifo}
		var record []byte
		if record, err = manifest.AppendEntry(nil, &e); err == nil {
			_, _, err = spool.Append(record)
		}
	}
	if err = errors.Join(err, spool.Close()); err != nil {
		t.Fatal(err)
	}
	l.phases(control.PhaseVerified)
	if a := ask(0, "a2"); a.Error != nil || a.Piece != nil {
		t.Errorf("for another agent: %+v", a)
	}
	var all bytes.Buffer
	for pieces := 0; ; pieces++ {
		a := ask(int64(all.Len()), "a1")
		if a.Error != nil || a.Piece == nil || a.Running {
			t.Fatalf("%+v", a)
		}
		all.Write(a.Piece.Data)
		if int64(all.Len()) == a.Piece.Size {
			if pieces < 3 {
				t.Errorf("%d pieces", pieces)
			}
			break
		}
	}
	if a := ask(1<<40, "a1"); a.Error != nil || a.Piece == nil || len(a.Piece.Data) != 0 {
		t.Errorf("behind the end: %+v", a)
	}
	z, err := zstd.NewReader(&all)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	n := 0
	if err := manifest.Import(z, func(manifest.Entry, manifest.Digest) error { n++; return nil }); err != nil || n != 1000 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// oneFile is a compressed listing of a file f with that content.
func oneFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	e := manifest.Entry{Path: "f", Type: sdk.FileRegular, Mode: 0o600, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Size: st.Size(),
		MTimeSec: st.ModTime().Unix(), MTimeNsec: uint32(st.ModTime().Nanosecond())}
	d := manifest.Digest{Size: e.Size, Sum: digest.Of(content), State: manifest.DigestOK}
	root := manifest.NewRoot(manifest.RuleBLAKE3)
	if err := root.Add(&e, &d); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z, err := zstd.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	w, err := listing.NewWriter(z, listing.Header{Rule: manifest.RuleBLAKE3, Root: root.Sum(), Entries: 1, Time: time.Now()})
	if err = errors.Join(err, w.Add(e, d), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// put places data as parts of n bytes.
func (h *host) put(data []byte, n int) []control.VerifyPart {
	h.t.Helper()
	var list []control.VerifyPart
	for i := 0; len(data) > 0; i++ {
		part := data[:min(n, len(data))]
		data = data[len(part):]
		path := filepath.Join(h.state, inDir, fmt.Sprintf("part-%d", i))
		if err := os.WriteFile(path, part, 0o600); err != nil {
			h.t.Fatal(err)
		}
		sum := sha256.Sum256(part)
		list = append(list, control.VerifyPart{Path: sdk.Raw(path), Digest: hex.EncodeToString(sum[:])})
	}
	return list
}

// TestVerify: an agent that takes part in no transfer checks a directory,
// answers while it works, and answers the same call alike.
func TestVerify(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.ask(&control.Request{Verb: control.VerbPrepare, Transfer: "t", Prepare: &control.Prepare{Alone: true, Lease: time.Minute, Hold: time.Hour}})
	if r.Error != nil || len(r.Agents) != 1 || r.Agents[0].Ready == nil {
		t.Fatalf("%+v", r)
	}
	port := r.Agents[0].Ready.Port
	if tables, _ := os.ReadFile("/proc/net/tcp"); !strings.Contains(string(tables), fmt.Sprintf("0100007F:%04X", port)) {
		t.Errorf("port %d is not one of the loopback address alone", port)
	}
	check := func(call string, parts []control.VerifyPart) control.Answer {
		t.Helper()
		for {
			r := h.ask(&control.Request{Verb: control.VerbVerify, Transfer: "t", Call: call, Verify: &control.Verify{Dir: sdk.Raw(dir), Parts: parts, Owner: "numeric"}})
			if r.Error != nil || len(r.Agents) != 1 {
				t.Fatalf("%+v", r)
			}
			if a := r.Agents[0]; !a.Running {
				return a
			} else if a.Verified == nil {
				t.Fatalf("it runs, and does not say how far it is: %+v", a)
			}
		}
	}
	good := oneFile(t, file)
	parts := h.put(good, 100)
	if a := check("v1", parts); a.Error != nil || a.Verified == nil || a.Verified.Checked != 3<<20 || len(a.Verified.Findings) != 0 {
		t.Fatalf("%+v", a)
	}
	if err := os.Truncate(file, 1); err != nil {
		t.Fatal(err)
	}
	if a := check("v1", parts); a.Error != nil || len(a.Verified.Findings) != 0 {
		t.Errorf("the repeat of a call checked again: %+v", a)
	}
	if a := check("v2", h.put(good, 1<<20)); a.Error != nil || a.Verified.Differing != 1 {
		t.Errorf("%+v", a)
	}

	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, good, 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := h.put(good, 1<<20)
	elsewhere[0].Path = sdk.Raw(secret)
	swapped := h.put(good, len(good)/2+1)
	swapped[0].Digest, swapped[1].Digest = swapped[1].Digest, swapped[0].Digest
	for name, c := range map[string]struct {
		parts []control.VerifyPart
		want  error
	}{"another's file": {elsewhere, sdk.ErrConfig}, "other parts than announced": {swapped, sdk.ErrIntegrity}} {
		if a := check("v-"+strings.Fields(name)[1][:4], c.parts); !errors.Is(a.Error, c.want) || a.Verified != nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if _, err := os.Stat(secret); err != nil {
		t.Error("a file elsewhere was removed")
	}
	h.stop()
	if left, _ := filepath.Glob(filepath.Join(h.state, inDir, "part-[1-9]*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
