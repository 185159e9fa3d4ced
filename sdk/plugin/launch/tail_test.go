package launch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

func TestTailIsBounded(t *testing.T) {
	tail := newTail()
	var in strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&in, "line %d %s\n", i, strings.Repeat("x", 2000))
	}
	in.WriteString(strings.Repeat("y", 1<<20) + "\nno newline \xff")
	var out bytes.Buffer
	tail.copy(&out, strings.NewReader(in.String()))
	if want := in.String() + "\n"; out.String() != want {
		t.Errorf("%d bytes were handed on, want %d", out.Len(), len(want))
	}
	kept := tail.String()
	if len(kept) > tailLines*(tailLine+1) || !strings.HasSuffix(kept, "no newline \uFFFD") {
		t.Errorf("%d bytes are remembered, ending in %q", len(kept), kept[max(0, len(kept)-20):])
	}
}

func TestTailReadsLogs(t *testing.T) {
	tail := newTail()
	tail.copy(&bytes.Buffer{}, strings.NewReader(`{"@level":"debug","@message":"plugin address"}
{"@level":"error","@message":"cannot bind","error":"no such device","@timestamp":"x"}
{"@level":"warn","@message":"late"}
{"answer":42}
plain
`))
	want := "[error] cannot bind: no such device\n[warn] late\n{\"answer\":42}\nplain"
	if got := tail.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTailRedacts(t *testing.T) {
	tail := newTail()
	tail.redact([]string{`sword"fish`, ""})
	var out bytes.Buffer
	tail.copy(&out, strings.NewReader("it is sword\"fish\n"+`{"@level":"info","@message":"it is sword\"fish"}`+"\n"))
	err := tail.cleanError(&sdk.Error{Kind: sdk.KindAuth, Message: `bad sword"fish`, Hint: `try another than sword"fish`, Stderr: `sword"fish`})
	for _, text := range []string{out.String(), tail.String(), err.Error(), sdk.AsError(err).Stderr} {
		if strings.Contains(text, "fish") || !strings.Contains(text, redacted) {
			t.Errorf("not redacted: %q", text)
		}
	}
	if !errors.Is(err, sdk.ErrAuth) {
		t.Errorf("the kind is lost: %v", err)
	}
}

func TestPrivateDir(t *testing.T) {
	dir, err := privateDir()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 || len(dir) > maxSocketDir {
		t.Errorf("%s: %v, %v", dir, info.Mode(), err)
	}
}
