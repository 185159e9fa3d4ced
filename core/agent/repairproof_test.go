package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree"
	"github.com/transferpy/transferpy/sdk"
)

// testSpool makes a spool of entries.
func testSpool(t *testing.T, entries ...manifest.Entry) *manifest.Spool {
	t.Helper()
	spool, err := manifest.Create(t.TempDir(), manifest.Header{DigestRule: manifest.RuleBLAKE3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spool.Close() })
	var b []byte
	for i := range entries {
		if b, err = manifest.AppendEntry(b, &entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := spool.Append(b); err != nil {
		t.Fatal(err)
	}
	return spool
}

// TestPassThatBringsTooLittle: a pass that came to its end without what was
// asked for fails its target, by the path: else it would be asked for again
// and again.
func TestPassThatBringsTooLittle(t *testing.T) {
	r := newFileRig(t, control.VerifyReadBack, proveNow, 2*digest.PieceSize)
	var entries []manifest.Entry
	for _, name := range strings.Split("abcdefgh", "") {
		entries = append(entries, manifest.Entry{Path: sdk.Raw(name), Type: sdk.FileRegular, Size: r.entry.Size})
	}
	ts := &treeSink{files: r.files, spool: testSpool(t, entries...)}
	m := &mender{t: &target{}, asked: []frame.NeedRange{{Entry: 7, Count: 2}}}
	r.send(0)
	if err := m.served(ts); !errors.Is(err, sdk.ErrIntegrity) || !strings.Contains(err.Error(), "asked for of h") {
		t.Errorf("a piece was left out: %v", err)
	}
	r.send(1)
	if err := m.served(ts); err != nil {
		t.Errorf("all was brought: %v", err)
	}
	m.nodes = map[uint64]*inquiry{3: {}}
	if err := m.served(ts); !errors.Is(err, sdk.ErrIntegrity) || !strings.Contains(err.Error(), "asked for of d") {
		t.Errorf("the nodes of a file were left out: %v", err)
	}
}

// TestSecondReadingMustBeTheFirst: a small file that gives other bytes than in
// pass 1, and was not changed as far as its times tell, is not sent.
func TestSecondReadingMustBeTheFirst(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := tree.OpenSource(sdk.Raw(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var entries []manifest.Entry
	var idents []manifest.Ident
	if err := src.Walk(t.Context(), func(e manifest.Entry, id manifest.Ident) error {
		entries, idents = append(entries, e), append(idents, id)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	last := uint64(len(entries) - 1)
	spool := testSpool(t, entries...)
	for said, same := range map[string]bool{"content": true, "contents": false} {
		if err := spool.SetDigest(last, manifest.Digest{Size: 7, Sum: digest.Of([]byte(said)), State: manifest.DigestOK}); err != nil {
			t.Fatal(err)
		}
		k, _ := testPacker(t, codec.NameNone)
		var p *parcel
		r := &reread{read: &reading{in: &input{src: src}, spool: spool}, digests: true, small: []file{{last, entries[last], idents[last]}},
			emit: func(_ context.Context, made *parcel) error { p = made; return nil }}
		if err := r.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := p.fill(t.Context(), k, p)
		p.release()
		if same != (err == nil) || !same && (!errors.Is(err, sdk.ErrIntegrity) || !strings.Contains(err.Error(), "read twice")) {
			t.Errorf("pass 1 has read %q, the second reading gives: %v", said, err)
		}
	}
}
