package frame

import (
	"crypto/ed25519"
	"testing"
)

// TestGapIsTheSources: a gap counts only with the source's signature for this
// transfer and pass, and leads forward.
func TestGapIsTheSources(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	here := Scope{Transfer: "20260101-test", Pass: 1}
	for name, c := range map[string]struct {
		scope Scope
		key   ed25519.PrivateKey
		gap   Gap
		flip  int // a byte of the payload
		ok    bool
	}{
		"right":            {here, private, Gap{100, 7}, -1, true},
		"another key":      {here, other, Gap{100, 7}, -1, false},
		"another transfer": {Scope{"20260102-test", 1}, private, Gap{100, 7}, -1, false},
		"another pass":     {Scope{here.Transfer, 2}, private, Gap{100, 7}, -1, false},
		"backwards":        {here, private, Gap{100, 2}, -1, false},
		"nowhere":          {here, private, Gap{100, 3}, -1, false},
		"another count":    {here, private, Gap{100, 7}, 7, false},
		"another segment":  {here, private, Gap{100, 7}, 11, false},
	} {
		f, err := c.gap.Build(c.scope, func(m []byte) []byte { return ed25519.Sign(c.key, m) })
		if err != nil {
			t.Fatal(err)
		}
		if c.flip >= 0 {
			f.Payload()[c.flip] ^= 8
		}
		check := &Checker{Scope: here, Key: public, number: 3}
		if err := check.Skip(f); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if want := map[bool]uint32{true: 7, false: 3}[c.ok]; check.number != want {
			t.Errorf("%s: segment %d is due, want %d", name, check.number, want)
		}
	}
}
