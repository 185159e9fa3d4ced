package agent

import (
	"bytes"
	"context"
	"testing"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/relay"
	"github.com/transferpy/transferpy/sdk"
)

// TestAParcelThatFailedIsReleased: a transfer that is stopped while parcels
// wait for memory gives back what they have, and trips over nothing that they
// have not.
func TestAParcelThatFailedIsReleased(t *testing.T) {
	spool := func() *manifest.Spool {
		s, err := manifest.Create(t.TempDir(), manifest.Header{Transfer: "T", DigestRule: manifest.RuleNone})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	var parcels []*parcel
	emit := func(_ context.Context, p *parcel) error { parcels = append(parcels, p); return nil }
	w := &walker{spool: spool(), emit: emit, meter: &meter{}}
	if err := w.visit(t.Context(), manifest.Entry{Path: "d", Type: sdk.FileDirectory, Mode: 0o755}, manifest.Ident{}); err != nil {
		t.Fatal(err)
	}
	if err := w.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &streamReader{in: bytes.NewReader([]byte("content")), end: func() error { return nil }, meter: &meter{}, tree: digest.NewTree()}
	if err := s.read(t.Context(), spool(), emit); err != nil {
		t.Fatal(err)
	}
	none, err := newCompressor(control.Settings{Codec: codec.NameNone})
	if err != nil {
		t.Fatal(err)
	}
	budget := relay.NewBudget(1 << 20)
	if _, err := budget.Get(t.Context(), 1<<20); err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	k := newPacker(budget, none, false)
	for i, p := range parcels {
		if p.fill(stopped, k, p) == nil {
			t.Errorf("parcel %d was filled without memory", i)
		}
		p.release()
	}
	if len(parcels) != 3 {
		t.Errorf("%d parcels, want the entries of the tree, the entry of the stream, its content", len(parcels))
	}
}
