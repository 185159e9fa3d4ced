package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/core/config"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/test/terminal"
)

// found are settings whose query has found n hosts.
func found(n, yes int) *config.Settings {
	s := &config.Settings{Query: config.Query{Text: "q", Path: "/srv", Yes: yes}}
	s.Request.Source = transfer.Endpoint{Host: "db1", Path: "/data"}
	for i := range n {
		s.Request.Targets = append(s.Request.Targets, transfer.Endpoint{Host: fmt.Sprintf("h%d", i), Path: "/srv"})
	}
	return s
}

func TestFoundText(t *testing.T) {
	s := found(37, 0)
	text := foundText(s, true)
	if !strings.HasPrefix(text, "--targets finds 37 hosts: h0, h1, ") || !strings.Contains(text, ", h19 and 17 more (--verbose names all)") || !strings.HasSuffix(text, "the source db1 is among them and is left out") {
		t.Error(text)
	}
	s.Verbose = true
	if text := foundText(s, false); !strings.HasSuffix(text, ", h36") {
		t.Error(text)
	}
	if text := foundText(found(1, 0), false); text != "--targets finds 1 host: h0" {
		t.Error(text)
	}
}

func TestAgreeWithoutTerminal(t *testing.T) {
	for _, tt := range []struct {
		yes  int
		dry  bool
		want string // part of the hint; empty: agreed
	}{
		{3, false, ""}, {0, true, ""}, {3, true, ""},
		{0, false, "--yes 3"}, {2, false, "--yes 3"}, {4, false, "--yes 3"}, {4, true, "--yes 3"},
	} {
		s := found(3, tt.yes)
		s.Request.DryRun = tt.dry
		a := &app{stdin: strings.NewReader("yes\n"), stderr: &screen{w: io.Discard}, terminal: -1}
		err := a.agree(t.Context(), s)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		var typed *sdk.Error
		if !errors.As(err, &typed) || !strings.Contains(typed.Hint, tt.want) || exitCode(t.Context(), err) != transfer.ExitUsage {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// TestAgreeAtTerminal plays the person: the question is shown with its count,
// and yes alone goes on.
func TestAgreeAtTerminal(t *testing.T) {
	for answer, code := range map[string]int{"y\n": transfer.ExitOK, " YES \n": transfer.ExitOK, "n\n": transfer.ExitRefused, "\n": transfer.ExitRefused, "37\n": transfer.ExitRefused, "\x04": transfer.ExitRefused} {
		file, keyboard := terminal.Open(t, 10, 100)
		var asked bytes.Buffer
		a := &app{stdin: file, stderr: &screen{w: &asked}, attended: true, terminal: int(file.Fd())}
		if err := keyboard.Type(answer); err != nil {
			t.Fatal(err)
		}
		err := a.agree(t.Context(), found(37, 0))
		if got := exitCode(t.Context(), err); err != nil && got != code || err == nil && code != transfer.ExitOK {
			t.Errorf("%q: %v", answer, err)
		}
		if want := "transfer db1:/data to /srv on 37 hosts? [y/N] "; !strings.Contains(asked.String(), want) {
			t.Errorf("it asked %q", asked.String())
		}
	}
}

func TestReadAnswerEnds(t *testing.T) {
	file, _ := terminal.Open(t, 10, 100)
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(transfer.ErrInterrupted) })
	if _, err := readAnswer(ctx, file, time.Minute); !errors.Is(err, transfer.ErrInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
	if _, err := readAnswer(t.Context(), file, time.Nanosecond); !errors.Is(err, sdk.ErrTimeout) {
		t.Errorf("nobody answers: %v", err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	if answer, err := readAnswer(t.Context(), closed, time.Minute); answer != "" || err != nil {
		t.Errorf("at the end: %q, %v", answer, err)
	}
}
