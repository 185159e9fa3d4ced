package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// queried are settings with a query, whose source is named.
func queried(t *testing.T, text, source string) *Settings {
	t.Helper()
	s, err := resolve(t, Flags{"targets": {"A:db"}, "target-path": {"/srv"}, "yes": {"2"}}, nil, text)
	if err == nil {
		err = s.Operands([]string{source})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFound(t *testing.T) {
	many := make([]string, control.MaxMembers)
	for i := range many {
		many[i] = fmt.Sprintf("db%04d", i)
	}
	for name, tt := range map[string]struct {
		source  string
		found   []string
		want    []string
		leftOut bool
		err     error // its kind
	}{
		"sorted":                      {"src:/d", []string{"db3", "db2"}, []string{"db2", "db3"}, false, nil},
		"twice":                       {"src:/d", []string{"db2", "db2"}, []string{"db2"}, false, nil},
		"with the source":             {"op@src:/d", []string{"db2", "src"}, []string{"db2"}, true, nil},
		"the source alone":            {"src:/d", []string{"src"}, nil, false, sdk.ErrNotFound},
		"nothing":                     {"src:/d", nil, nil, false, sdk.ErrNotFound},
		"no host's name":              {"src:/d", []string{"-oProxyCommand=x"}, nil, false, sdk.ErrInternal},
		"an escape sequence":          {"src:/d", []string{"db\x1b[2J"}, nil, false, sdk.ErrInternal},
		"too many":                    {"src:/d", many, nil, false, sdk.ErrConfig},
		"as many as there may be":     {"src:/d", many[1:], many[1:], false, nil},
		"an address without brackets": {"src:/d", []string{"2001:db8::1"}, []string{"2001:db8::1"}, false, nil},
	} {
		s := queried(t, "", tt.source)
		leftOut, err := s.Found(tt.found)
		if tt.err != nil {
			if !errors.Is(err, tt.err) || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var got []string
		for _, e := range s.Request.Targets {
			got = append(got, e.Host)
			if e.Path != "/srv" || e.Executor != "ssh" {
				t.Errorf("%s: %+v", name, e)
			}
		}
		if err != nil || leftOut != tt.leftOut || !cmp.Equal(got, tt.want) {
			t.Errorf("%s: %d hosts, left out %v, %v", name, len(got), leftOut, err)
		}
	}
}

func TestQueryMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		flags    Flags
		operands []string
		want     string
	}{
		"no path":          {Flags{"targets": {"q"}}, nil, "--targets needs --target-path"},
		"path alone":       {Flags{"target-path": {"/a"}}, nil, "--target-path has no meaning without --targets"},
		"yes alone":        {Flags{"yes": {"3"}}, nil, "--yes has no meaning without --targets"},
		"empty query":      {Flags{"targets": {""}, "target-path": {"/a"}}, nil, "--targets: a query of 1 to"},
		"empty path":       {Flags{"targets": {"q"}, "target-path": {""}}, nil, "--target-path is empty"},
		"yes to none":      {Flags{"targets": {"q"}, "target-path": {"/a"}, "yes": {"0"}}, nil, `--yes: "0" is no whole number from 1`},
		"with targets too": {Flags{"targets": {"q"}, "target-path": {"/a"}}, []string{"a:/b", "c:/d"}, "the SOURCE is the only operand"},
		"without a source": {Flags{"targets": {"q"}, "target-path": {"/a"}}, []string{}, "the SOURCE is the only operand"},
	} {
		s, err := resolve(t, tt.flags, nil, "")
		if err == nil {
			err = s.Operands(tt.operands)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if _, err := Parse("test.conf", []byte("[DEFAULT]\ntargets = A:db\n")); err == nil || !strings.Contains(err.Error(), "cannot be set in the file") {
		t.Errorf("a query in the file: %v", err)
	}
}

func TestDataAddress(t *testing.T) {
	s, err := resolve(t, nil, nil, "[DEFAULT]\ndata_address = db1=192.0.2.1, db2 = 2001:db8::2\n  db9=192.0.2.9\n  op@db3=192.0.2.3\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Operands([]string{"root@db1:/a", "db2:/b", "op@db3:/b", "db4:/b"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"root@db1": "192.0.2.1", "db2": "2001:db8::2", "op@db3": "192.0.2.3"}
	if diff := cmp.Diff(want, s.Request.DataAddresses); diff != "" {
		t.Error(diff)
	}
	q := queried(t, "[DEFAULT]\ndata_address = db2=192.0.2.2\n", "src:/d")
	if _, err := q.Found([]string{"db2"}); err != nil || q.Request.DataAddresses["db2"] != "192.0.2.2" {
		t.Errorf("of a host that was found: %v, %v", q.Request.DataAddresses, err)
	}
	for _, text := range []string{"192.0.2.1", "db1", "db1=", "db1=db2", "=192.0.2.1", "-x=192.0.2.1", "db1=192.0.2.1, db1=192.0.2.2"} {
		if _, err := resolve(t, nil, nil, "[DEFAULT]\ndata_address = "+text+"\n"); err == nil || !strings.Contains(err.Error(), "test.conf, line 2: data_address") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := (&Settings{Executor: "ssh"}).complete(make([]transfer.Endpoint, control.MaxMembers+1)); !errors.Is(err, sdk.ErrConfig) {
		t.Errorf("more targets than there may be: %v", err)
	}
}
