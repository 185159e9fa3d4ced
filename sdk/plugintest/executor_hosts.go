package plugintest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

func (s *executorSuite) hosts(t *testing.T) {
	for range s.times() {
		ctx, cancel := within(t, 2*time.Minute)
		defer cancel()
		results, err := s.collect(t, ctx, s.Good, sdk.Command{Argv: argv("printf", "%s", "here")})
		if err != nil {
			t.Fatal(full(err))
		}
		for _, h := range s.Good {
			wantResult(t, results[h], 0, "here", "")
		}
		if len(results) != len(s.Good) {
			t.Errorf("%d results for %d hosts", len(results), len(s.Good))
		}
	}
	if results, err := s.collect(t, t.Context(), nil, sdk.Command{Argv: argv("true")}); err != nil || len(results) > 0 {
		t.Errorf("no hosts: %v, %v", results, err)
	}
}

// unreachable asks hosts of which one does not answer and one does not exist.
func (s *executorSuite) unreachable(t *testing.T) {
	if s.Unreachable == "" {
		t.Skip("ExecutorCase.Unreachable names no host")
	}
	missing := []string{s.Unreachable}
	if s.Unknown != "" {
		missing = append(missing, s.Unknown)
	}
	for range s.times() {
		ctx, cancel := within(t, 2*time.Minute)
		defer cancel()
		results, err := s.collect(t, ctx, append(missing, s.Good...), sdk.Command{Argv: argv("printf", "%s", "here"), Timeout: 20 * time.Second})
		if err != nil {
			t.Fatalf("one unreachable host fails the whole call: %s", full(err))
		}
		for _, h := range s.Good {
			wantResult(t, results[h], 0, "here", "")
		}
		for _, h := range missing {
			r, ok := results[h]
			if !ok || r.Err == nil {
				t.Errorf("host %s, which cannot be reached: result %v, error %v; want an error", h, ok, r.Err)
			} else if r.Err.Message == "" || r.Err.Host != h {
				t.Errorf("the error for %s lacks message or host: %+v", h, r.Err)
			}
		}
	}
}

// slow asks several hosts of which one takes its time: the others come before
// it where the backend streams, and all come.
func (s *executorSuite) slow(t *testing.T) {
	if len(s.Good) < 2 {
		t.Skip("ExecutorCase.Good names one host only")
	}
	const nap = 4 * time.Second
	marked := scratch()
	s.cleanUp(t, marked)
	ctx, cancel := within(t, 2*time.Minute)
	defer cancel()
	// It is slow on the first alone; the names may all lead to one machine,
	// or each to its own.
	if _, err := s.collect(t, ctx, s.Good[:1], sdk.Command{Argv: argv("touch", marked)}); err != nil {
		t.Fatal(full(err))
	}
	cmd := sh(`if rm "$1" 2>/dev/null; then sleep 4; printf slow; else printf quick; fi`, marked)
	var mu sync.Mutex
	var quick time.Duration
	said := map[string]int{}
	began := time.Now()
	err := s.e.Run(ctx, s.Good, cmd, func(r sdk.Result) {
		mu.Lock()
		defer mu.Unlock()
		if r.Err != nil {
			t.Errorf("%s: %s", r.Host, full(r.Err))
		}
		if said[string(r.Stdout)]++; string(r.Stdout) == "quick" {
			quick = time.Since(began)
		}
	})
	switch {
	case err != nil:
		t.Error(full(err))
	case said["slow"] != 1 || said["quick"] != len(s.Good)-1:
		t.Errorf("%v, want one slow and %d quick", said, len(s.Good)-1)
	case s.traits.Streams && quick >= nap && time.Since(began) < quick+time.Second:
		t.Errorf("the quick hosts' results came after %v, with the slow one's; Streams is set", quick)
	}
}

// callsAtOnce is how many calls are made at the same time, as far as the
// executor's MaxCalls allows.
const callsAtOnce = 16

func (s *executorSuite) atOnce(t *testing.T) {
	slots := make(chan struct{}, max(s.traits.MaxCalls, 1))
	for range s.times() {
		var calls sync.WaitGroup
		for i := range callsAtOnce {
			calls.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				ctx, cancel := within(t, 2*time.Minute)
				defer cancel()
				text := fmt.Sprintf("call %d", i)
				results, err := s.collect(t, ctx, s.Good[:1], sh(`sleep 0.2; cat; printf %s "$1"`, text))
				if err != nil {
					t.Error(full(err))
					return
				}
				wantResult(t, results[s.Good[0]], 0, text, "")
			})
		}
		calls.Wait()
	}
}

func (s *executorSuite) hostile(t *testing.T) {
	canary := scratch()
	s.cleanUp(t, canary)
	for _, name := range []string{"-oProxyCommand=touch " + canary, "--help", "x;touch " + canary, "$(touch " + canary + ")", "`touch " + canary + "`",
		"a b", "a\nb", "../../etc", "*", "x'y", `x"y`, "\x1b[31m", "\xff", "", "@", "@all", "{host}", "db[1-9]", "db1,db2", "!db1", "D{db1}", "db*", "L@db1", strings.Repeat("x", 300)} {
		if slices.Contains(s.Good, name) {
			continue
		}
		for range s.times() {
			ctx, cancel := within(t, time.Minute)
			results, err := s.collect(t, ctx, []string{name}, sdk.Command{Argv: argv("true"), Timeout: 10 * time.Second})
			cancel()
			if err == nil && results[name].Err == nil {
				t.Errorf("host %q: a command ran; want an error", name)
			}
		}
	}
	s.twice(t, sdk.Command{Argv: argv("test", "!", "-e", canary)}, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, "", "") })
}
