package plugintest

import (
	"context"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

func (s *executorSuite) put(t *testing.T) {
	p, ok := s.e.(sdk.Putter)
	if !ok {
		t.Skip("the executor has no Put")
	}
	content := make([]byte, 100_000)
	for i := range content {
		content[i] = byte(i ^ i>>8)
	}
	for _, file := range []sdk.File{
		{Path: sdk.Raw(scratch()), Mode: 0o600, Content: content},
		{Path: sdk.Raw(scratch() + " '\"$(id)\n\xff"), Mode: 0o755, Content: []byte("#!/bin/sh\n")},
		{Path: sdk.Raw(scratch()), Mode: 0o400},
	} {
		s.cleanUp(t, string(file.Path))
		if r := s.putOne(t, p, file); r.Err != nil || r.ExitCode != 0 {
			t.Errorf("Put %s: exit code %d, error %v", file.Path.Display(), r.ExitCode, r.Err)
			continue
		}
		s.lies(t, file)
		// The second one finds it there and leaves it as it is.
		again := file
		again.Content = []byte("another")
		if r := s.putOne(t, p, again); r.Err == nil || r.Err.Kind != sdk.KindExists {
			t.Errorf("Put %s for the second time: %+v; want an error of kind exists", file.Path.Display(), r)
		}
		s.lies(t, file)
	}
	nowhere := sdk.File{Path: sdk.Raw(scratch() + "/no/such"), Mode: 0o600, Content: content}
	if r := s.putOne(t, p, nowhere); r.Err == nil {
		t.Errorf("Put into a directory that does not exist: %+v; want an error", r)
	}
}

func (s *executorSuite) putOne(t *testing.T, p sdk.Putter, file sdk.File) sdk.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var result sdk.Result
	n := 0
	if err := p.Put(ctx, s.Good[:1], file, func(r sdk.Result) { result = r; n++ }); err != nil {
		t.Fatal("Put: " + full(err))
	}
	if n != 1 || result.Host != s.Good[0] {
		t.Fatalf("Put: %d results, the last for %q", n, result.Host)
	}
	return result
}

// lies checks content and mode of a file on the host.
func (s *executorSuite) lies(t *testing.T, file sdk.File) {
	t.Helper()
	path := string(file.Path)
	mode := map[uint32]string{0o600: "-rw-------", 0o755: "-rwxr-xr-x", 0o400: "-r--------"}[file.Mode]
	s.twice(t, sh(`ls -ld -- "$1" | cut -c 1-10 | head -n 1`, path), func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, mode+"\n", "") })
	s.twice(t, sdk.Command{Argv: argv("cat", "--", path)}, func(t *testing.T, r sdk.Result) { wantResult(t, r, 0, string(file.Content), "") })
}
