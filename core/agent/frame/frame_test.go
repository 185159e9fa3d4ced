package frame

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
)

func hash(b []byte) Digest { return sha256.Sum256(b) }

func data(t *testing.T, content string, at uint64) *Frame {
	t.Helper()
	buf := append(make([]byte, PayloadAt(1)), content...)
	f, err := Build(buf, TypeData, 0, 1, []Extent{{7, at, uint64(len(content))}}, len(content))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRoundTrip(t *testing.T) {
	f := data(t, "hello", 1<<40)
	got, err := Read(bytes.NewReader(f.Wire()), func(n int) []byte { return make([]byte, n) })
	if err != nil {
		t.Fatal(err)
	}
	if got.Header != f.Header || got.Extent(0) != (Extent{7, 1 << 40, 5}) || string(got.Payload()) != "hello" {
		t.Errorf("got %+v %v %q", got.Header, got.Extent(0), got.Payload())
	}
}

func TestACutStreamIsNeverAnEnd(t *testing.T) {
	wire := data(t, "hello", 0).Wire()
	for n := range len(wire) {
		_, err := Read(bytes.NewReader(wire[:n]), func(n int) []byte { return make([]byte, n) })
		if !errors.Is(err, ErrCut) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func TestRefused(t *testing.T) {
	extent := []Extent{{0, 0, 5}}
	cases := map[string]struct {
		t       Type
		codec   uint8
		extents []Extent
		payload string
		decoded int
	}{
		"data without extents":       {TypeData, 0, nil, "hello", 5},
		"extents and payload differ": {TypeData, 0, extent, "hell", 4},
		"stored but growing":         {TypeData, 0, extent, "hell", 5},
		"a hole with content":        {TypeHole, 0, extent, "hello", 5},
		"a heartbeat that carries":   {TypeHeartbeat, 0, nil, "x", 1},
		"offset out of range":        {TypeData, 0, []Extent{{0, 1 << 63, 5}}, "hello", 5},
		"length that overflows":      {TypeHole, 0, []Extent{{0, 0, 1 << 63}}, "", 0},
		"decoded over the limit":     {TypeData, 1, []Extent{{0, 0, MaxPayload + 1}}, "x", MaxPayload + 1},
		"type unknown":               {99, 0, nil, "", 0},
	}
	for name, c := range cases {
		buf := append(make([]byte, PayloadAt(len(c.extents))), c.payload...)
		if _, err := Build(buf, c.t, c.codec, 1, c.extents, c.decoded); err == nil {
			t.Errorf("%s: built", name)
		}
		if _, err := Parse(buf); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestSegments(t *testing.T) {
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	scope := Scope{"20260101-x", 1}
	seal := func() (*Sealer, *Frame, []Digest) {
		s := &Sealer{Scope: scope, Hash: hash, Sign: func(m []byte) []byte { return ed25519.Sign(key, m) }}
		var ds []Digest
		for _, c := range []string{"one", "two", "three"} {
			f := data(t, c, 0)
			ds = append(ds, hash(f.Wire()))
			s.Add(f, ds[len(ds)-1])
		}
		end, err := s.Seal()
		if err != nil {
			t.Fatal(err)
		}
		return s, end, ds
	}
	s, end, ds := seal()
	fresh := func() *Checker { return &Checker{Scope: scope, Hash: hash, Key: pub} }
	c := fresh()
	if err := c.Check(end, ds); err != nil {
		t.Fatal(err)
	}
	if err := c.Check(end, ds); err == nil {
		t.Error("a repeated segment was taken")
	}
	second, _ := s.Seal()
	if err := c.Check(second, nil); err != nil {
		t.Errorf("an empty second segment: %v", err)
	}
	if err := fresh().Check(second, nil); err == nil {
		t.Error("a segment was left out and nobody saw it")
	}
	altered := append([]Digest(nil), ds...)
	altered[1][0] ^= 1
	var ae *AlteredError
	if err := fresh().Check(end, altered); !errors.As(err, &ae) || ae.Frame != 1 {
		t.Errorf("altered frame 1: %v", err)
	}
	for name, list := range map[string][]Digest{"dropped": ds[:2], "added": append(ds[:3:3], Digest{})} {
		if err := fresh().Check(end, list); !errors.As(err, &ae) {
			t.Errorf("%s frame: %v", name, err)
		}
	}
	other := &Checker{Scope: Scope{"other", 1}, Hash: hash, Key: pub}
	if err := other.Check(end, ds); !errors.As(err, &ae) {
		t.Errorf("a segment of another transfer: %v", err)
	}
	moved := bytes.Clone(end.Wire())
	moved[7] = 2 // the pass
	later := &Checker{Scope: Scope{scope.Transfer, 2}, Hash: hash, Key: pub}
	if f, err := Parse(moved); err != nil || !errors.As(later.Check(f, ds), &ae) {
		t.Errorf("a segment moved to another pass: %v", err)
	}
	wire := bytes.Clone(end.Wire())
	wire[len(wire)-1] ^= 1
	if f, err := Parse(wire); err != nil || !errors.As(fresh().Check(f, ds), &ae) {
		t.Errorf("altered signature: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(append(make([]byte, PayloadAt(0)), "x"...))
	buf := append(make([]byte, PayloadAt(1)), "hello"...)
	if fr, err := Build(buf, TypeData, 0, 1, []Extent{{1, 2, 5}}, 5); err == nil {
		f.Add(fr.Wire())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := Parse(b)
		if err != nil {
			return
		}
		extents := make([]Extent, fr.Header.Extents)
		for i := range extents {
			extents[i] = fr.Extent(i)
		}
		again := append(make([]byte, PayloadAt(len(extents))), fr.Payload()...)
		g, err := Build(again, fr.Type, fr.Codec, fr.Pass, extents, fr.Decoded)
		if err != nil || !bytes.Equal(g.Wire(), b) {
			t.Fatalf("parse then build is not the input: %v", err)
		}
		_, _ = FileDigests(fr.Payload())
		_, _ = ParsePassEnd(fr.Payload())
		if p, err := ParsePieces(fr.Payload()); err == nil && !bytes.Equal(p.Append(nil), fr.Payload()) {
			t.Fatal("pieces encode to other bytes than they were decoded from")
		}
		_, _, _, _ = splitSegmentEnd(fr)
	})
}
