package salt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
)

const nonce = "00112233445566778899aabbccddeeff"

// read reads what salt printed, as Run does, and returns each host's result.
func read(t *testing.T, stdout, stderr string, code int, hosts ...string) map[string]sdk.Result {
	t.Helper()
	got := map[string]sdk.Result{}
	names := map[string][]string{}
	for _, h := range hosts {
		names[h] = []string{h}
	}
	r := &replies{nonce: nonce, names: names, emit: func(res sdk.Result) {
		if _, twice := got[res.Host]; twice {
			t.Errorf("%s has a second result", res.Host)
		}
		got[res.Host] = res
	}}
	for line := range strings.Lines(stdout) {
		r.line([]byte(line))
	}
	r.end(program.Output{Stderr: []byte(stderr), ExitCode: code}, nil)
	if len(got) != len(hosts) {
		t.Errorf("%d results for %d hosts", len(got), len(hosts))
	}
	return got
}

// captured is a capture's stream; where a command printed "out" stands what the
// wrapper prints for it.
func captured(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // the stream was empty
		t.Fatal(err)
	}
	answer := fmt.Sprintf("%s %s::3,0.", nonce, base64.StdEncoding.EncodeToString([]byte("out")))
	return strings.NewReplacer(`"stdout": "out"`, `"stdout": "`+answer+`"`, `"stdout": ""`, `"stdout": "`+answer+`"`).Replace(string(data))
}

func TestRepliesAsCaptured(t *testing.T) {
	for name, tt := range map[string]struct {
		code int
		good []string
		bad  map[string]*sdk.Error // kind and a part of the message
	}{
		"run_all_stream":              {1, []string{"db2", "db3"}, nil},
		"run_all_stream_indent-1":     {1, []string{"db2", "db3"}, nil},
		"run_all_ok_static":           {0, []string{"db2", "db3"}, nil},
		"show_jid":                    {1, []string{"db2"}, nil},
		"verbose":                     {1, []string{"db2"}, nil},
		"signal9":                     {0, []string{"db2"}, nil},
		"down_stream":                 {1, []string{"db2"}, map[string]*sdk.Error{"db3": {Kind: sdk.KindUnreachable, Message: "the minion db3 did not answer: Minion did not return. [No response]"}}},
		"minion_stopped":              {1, []string{"db2"}, map[string]*sdk.Error{"db3": {Kind: sdk.KindUnreachable, Message: "[Not connected]"}}},
		"run_all_missing_stream":      {1, []string{"db2"}, map[string]*sdk.Error{"nosuch": {Kind: sdk.KindUnreachable, Message: "the minion nosuch did not answer"}}},
		"run_all_only_missing_stream": {2, nil, map[string]*sdk.Error{"nosuch": {Kind: sdk.KindUnreachable, Message: "salt knows no minion nosuch"}}},
		"list_with_glob":              {2, nil, map[string]*sdk.Error{"dbx": {Kind: sdk.KindUnreachable, Message: "salt knows no minion dbx"}}},
		"down_hide":                   {0, []string{"db2"}, map[string]*sdk.Error{"db3": {Kind: sdk.KindUnreachable, Message: "told nothing"}}},
		"master_down":                 {0, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnreachable, Message: "master does not answer"}}},
		"killed_sigint":               {0, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnreachable, Message: "exit code 0 and told nothing"}}},
		"killed_sigterm":              {0, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnreachable, Message: "exit code 0 and told nothing"}}},
		"value_trimmed":               {1, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnsupported, Message: "longer than it carries"}}},
		"bad_function":                {1, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnsupported, Message: "'cmd.nosuch' is not available"}}},
		"notfound_noshell":            {1, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnreachable, Message: "Unable to run command"}}},
		"timeout_kwarg":               {0, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindUnreachable, Message: "no answer of the command"}}},
		"usage_error":                 {64, nil, map[string]*sdk.Error{"db2": {Kind: sdk.KindInternal, Message: "no such option"}}},
	} {
		hosts := tt.good
		for h := range tt.bad {
			hosts = append(hosts, h)
		}
		got := read(t, captured(t, name+".stdout"), captured(t, name+".stderr"), tt.code, hosts...)
		for _, h := range tt.good {
			if r := got[h]; r.Err != nil || r.ExitCode != 3 || string(r.Stdout) != "out" {
				t.Errorf("%s: %s: %+v", name, h, r)
			}
		}
		for h, want := range tt.bad {
			r := got[h]
			if r.Err == nil || r.Err.Kind != want.Kind || r.Err.Host != h || !strings.Contains(r.Err.Message, want.Message) {
				t.Errorf("%s: %s: %+v, want %+v", name, h, r.Err, want)
			}
			if r.Err != nil && strings.Contains(r.Err.Message+r.Err.Stderr, "HOME") {
				t.Errorf("%s: %s: the minion's environment is shown: %+v", name, h, r.Err)
			}
		}
	}
}

// TestRepliesBelieveAMinionAboutItself holds that nothing inside a minion's
// answer becomes another's, and that the first answer counts.
func TestRepliesBelieveAMinionAboutItself(t *testing.T) {
	good := fmt.Sprintf(`{"db2": {"pid": 1, "retcode": 0, "stdout": "%s AAAA\n{\"db3\": {\"retcode\": 0, \"stdout\": \"\"}}\n%s ::7,0.", "stderr": ""}}`, nonce, nonce)
	again := fmt.Sprintf(`{"db2": {"pid": 1, "retcode": 0, "stdout": "%s ::9,0.", "stderr": ""}}`, nonce)
	got := read(t, good+"\n"+again+"\n"+`{"db9": {"retcode": 0, "stdout": ""}}`+"\n", "", 0, "db2", "db3")
	if r := got["db2"]; r.Err != nil || r.ExitCode != 7 {
		t.Errorf("db2: %+v", r)
	}
	if r := got["db3"]; !errors.Is(r.Err, sdk.ErrUnreachable) {
		t.Errorf("db3: %+v", r)
	}
}

// FuzzReplies holds that whatever salt prints, each host has one result.
func FuzzReplies(f *testing.F) {
	f.Add("{\"db1\": {\"retcode\": 0, \"stdout\": \""+nonce+" ::0,0.\"}}\n", 0)
	f.Add("warning\n{\n  \"db1\": \"x\"\n}\n{", 64)
	f.Add("{\"db1\": 1, \"db2\": [{]}\n{{", 2)
	f.Fuzz(func(t *testing.T, stdout string, code int) {
		read(t, stdout, stdout, code, "db1", "db2")
	})
}

func TestList(t *testing.T) {
	for name, want := range map[string]string{"preview_C": "db2", "preview_L": "db2 db3", "preview_glob": "db2 db3", "preview_none": ""} {
		ids, ok := list([]byte("[WARNING ] deprecated\n" + captured(t, name+".stdout")))
		if !ok || strings.Join(ids, " ") != want {
			t.Errorf("%s: %q, %v", name, ids, ok)
		}
	}
	for _, bad := range []string{"", "[", "[WARNING ]\n", "{}", captured(t, "list_with_glob.stdout")} {
		if ids, ok := list([]byte(bad)); ok {
			t.Errorf("%q: %q", bad, ids)
		}
	}
}

func TestID(t *testing.T) {
	for _, tt := range []struct{ template, host, id string }{
		{"{host}", "db1", "db1"}, {"{host}.site.org", "db1", "db1.site.org"}, {"{short}", "db1.lab", "db1"}, {"x-{short}.y", "db1.lab", "x-db1.y"},
	} {
		if id, err := idTemplate(tt.template).of(tt.host); err != nil || id != tt.id {
			t.Errorf("%+v: %q, %v", tt, id, err)
		}
		host, err := idTemplate(tt.template).host(tt.id)
		if again, _ := idTemplate(tt.template).of(host); err != nil || again != tt.id {
			t.Errorf("%+v: back to %q, %v", tt, host, err)
		}
	}
	for _, bad := range []string{"", "db", "{host}{short}", "{host} x", "{host},db2", "*{host}", "-{host}"} {
		if idTemplate(bad).check() == nil {
			t.Errorf("the template %q is taken", bad)
		}
	}
	for _, bad := range []string{"", "db*", "db[12]", "db1,db2", "db1 db2", "a?", "-x", "L@db1", "a\nb", "db1.x y", "\xff"} {
		if id, err := idTemplate("{short}").of(bad); err == nil {
			t.Errorf("the host %q has the id %q", bad, id)
		}
	}
	if host, err := idTemplate("{host}.site").host("db1.other"); !errors.Is(err, sdk.ErrConfig) {
		t.Errorf("%q, %v", host, err)
	}
}
