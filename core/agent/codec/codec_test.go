package codec

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// payloads are frames' contents from empty to the largest, from all alike to
// random.
func payloads() map[string][]byte {
	random := make([]byte, 1<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(random)
	return map[string][]byte{
		"empty":   {},
		"byte":    {7},
		"short":   []byte("transferpy"),
		"zeros":   make([]byte, 1<<20),
		"largest": make([]byte, MaxRaw),
		"text":    []byte(strings.Repeat("INSERT INTO page VALUES (42,'Main_Page');\n", 20000)),
		"random":  random,
	}
}

// all are the codecs at all their levels, by a name for messages.
func all(t testing.TB) map[string]Codec {
	codecs := map[string]Codec{}
	for _, name := range []string{NameZstd, NameMinLZ, NameNone} {
		for level := range Levels + 1 {
			if name == NameNone && level > 0 {
				continue
			}
			c, err := ByName(name, level)
			if err != nil {
				t.Fatal(err)
			}
			codecs[fmt.Sprint(name, " ", level)] = c
		}
	}
	return codecs
}

func TestRoundTrip(t *testing.T) {
	for name, c := range all(t) {
		for what, src := range payloads() {
			payload := c.Encode(nil, src)
			if saves := Saves(len(src), len(payload)); what == "random" && saves {
				t.Errorf("%s: random bytes are worth %d of %d", name, len(payload), len(src))
			} else if what == "text" && c.ID() != Stored && (!saves || len(payload) > len(src)/2) {
				t.Errorf("%s: text is not compressed: %d of %d bytes", name, len(payload), len(src))
			}
			got, err := Decompress(c.ID(), nil, payload, len(src))
			if err != nil || !bytes.Equal(got, src) {
				t.Errorf("%s, %s: %v; %d bytes instead of %d", name, what, err, len(got), len(src))
			}
		}
	}
}

// TestLevelsAndLadder: a higher level, and a higher rung, makes fewer bytes
// of what a database's pages are like.
func TestLevelsAndLadder(t *testing.T) {
	var src []byte
	rng := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("main page user talk category template file help portal draft module history edit revision")
	for len(src) < 1<<20 {
		src = fmt.Appendf(src, "%08d %s %s %x\n", len(src)/40, words[rng.IntN(len(words))], words[rng.IntN(len(words))], rng.Uint32())
	}
	src = src[:1<<20]
	last := len(src) + 1
	for i, c := range Ladder() {
		if n := len(c.Encode(nil, src)); n >= last {
			t.Errorf("rung %d makes %d bytes, the one below %d", i, n, last)
		} else {
			last = n
		}
	}
	for _, name := range []string{NameMinLZ, NameZstd} {
		last := len(src)
		for level := 1; level <= Levels; level++ {
			c, err := ByName(name, level)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(c.Encode(nil, src)); n >= last {
				t.Errorf("%s %d makes %d bytes, the level below %d", name, level, n, last)
			} else {
				last = n
			}
		}
	}
}

func TestReusesMemory(t *testing.T) {
	src := payloads()["text"]
	for _, name := range []string{NameMinLZ, NameZstd} {
		c, _ := ByName(name, 0)
		enc, dec := make([]byte, 0, 2*len(src)), make([]byte, 0, len(src))
		out := c.Encode(enc, src)
		got, err := c.Decode(dec, out, len(src))
		if err != nil {
			t.Fatal(err)
		}
		if &out[0] != &enc[:1][0] || &got[0] != &dec[:1][0] {
			t.Errorf("%s makes new memory although there is enough", name)
		}
	}
}

func TestDecodeRefusesWrongLength(t *testing.T) {
	src := payloads()["text"]
	for name, c := range all(t) {
		out := c.Encode(nil, src)
		for _, rawLen := range []int{-1, 0, len(src) - 1, len(src) + 1, MaxRaw + 1, 1 << 40} {
			if _, err := c.Decode(nil, out, rawLen); err == nil {
				t.Errorf("%s takes %d bytes as %d", name, len(src), rawLen)
			}
		}
	}
	if _, err := Decompress(Stored, nil, src, len(src)-1); err == nil {
		t.Error("a stored frame of another length is taken")
	}
}

func TestSaves(t *testing.T) {
	for _, c := range []struct {
		raw, encoded int
		want         bool
	}{{100, 94, true}, {100, 95, false}, {1 << 20, 1 << 19, true}, {10, 9, true}, {10, 10, false}, {0, 0, true}} {
		if got := Saves(c.raw, c.encoded); got != c.want {
			t.Errorf("Saves(%d, %d) = %v", c.raw, c.encoded, got)
		}
	}
}

func TestUnknown(t *testing.T) {
	if _, err := ByName("lzma", 0); err == nil || !strings.Contains(err.Error(), "zstd") {
		t.Errorf("the error names no known codec: %v", err)
	}
	for name, level := range map[string]int{NameNone: 1, NameMinLZ: Levels + 1, NameZstd: -1, NameAuto: 0} {
		if _, err := ByName(name, level); err == nil {
			t.Errorf("%s is taken at level %d", name, level)
		}
	}
	if _, err := Decompress(200, nil, nil, 0); err == nil {
		t.Error("an unknown id is taken")
	}
}

// FuzzDecode: whatever comes, a decoder returns exactly what was asked for
// or an error, makes no more memory than that, and never panics.
func FuzzDecode(f *testing.F) {
	for what, src := range payloads() {
		if what == "largest" {
			continue
		}
		for _, id := range []ID{Stored, MinLZ, Zstd} {
			c, _ := ByID(id)
			f.Add(byte(id), c.Encode(nil, src[:min(len(src), 4096)]), min(len(src), 4096))
		}
	}
	f.Fuzz(func(t *testing.T, id byte, payload []byte, rawLen int) {
		if rawLen > 1<<20 {
			rawLen %= 1 << 20
		}
		out, err := Decompress(ID(id%4), nil, payload, rawLen)
		if err == nil && len(out) != rawLen {
			t.Fatalf("%d bytes instead of %d", len(out), rawLen)
		}
		if cap(out) > 2*rawLen+4096 && ID(id%4) != Stored {
			t.Fatalf("%d bytes of memory for a frame of %d", cap(out), rawLen)
		}
	})
}

func BenchmarkCodecs(b *testing.B) {
	src := payloads()["text"][:512<<10]
	for _, name := range []string{NameMinLZ, NameZstd} {
		c, _ := ByName(name, 0)
		enc := c.Encode(nil, src)
		b.Run(name+"/encode", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				enc = c.Encode(enc, src)
			}
		})
		b.Run(name+"/decode", func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			var dec []byte
			for b.Loop() {
				dec, _ = c.Decode(dec, enc, len(src))
			}
		})
	}
}
