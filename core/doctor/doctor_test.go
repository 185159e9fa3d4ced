package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// site is an executor whose hosts answer the first command as a test says,
// and nothing else.
type site struct {
	sdk.Plugin
	answers map[string]func(tools []string) sdk.Result
}

func (s *site) Run(_ context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	for _, h := range hosts {
		answer := s.answers[h]
		switch {
		case len(cmd.Argv) < 5 || cmd.Argv[4] != odd:
			emit(sdk.Result{Host: h, Err: &sdk.Error{Kind: sdk.KindPermission, Message: "no agent here"}})
		case answer == nil:
			return &sdk.Error{Kind: sdk.KindUnreachable, Message: "the way is closed", Hint: "open it"}
		default:
			var tools []string
			for _, t := range cmd.Argv[5:] {
				tools = append(tools, string(t))
			}
			r := answer(tools)
			r.Host = h
			emit(r)
			emit(r) // a double is dropped
			emit(sdk.Result{Host: "somebody"})
		}
	}
	return nil
}

func (s *site) Mode(context.Context, string) (sdk.Mode, sdk.Description, error) {
	return nil, sdk.Description{Tools: []string{"mariabackup|xtrabackup", "stat"}}, nil
}

func (s *site) Executor(context.Context, string) (sdk.Executor, sdk.Description, error) {
	return s, sdk.Description{Tools: []string{"timeout"}, Executor: sdk.ExecutorTraits{MaxHosts: 2}}, nil
}

func (s *site) Firewall(context.Context, string) (sdk.Firewall, sdk.Description, error) {
	return nil, sdk.Description{}, errors.New("there is none")
}

type agents struct{}

func (agents) Digests(bool) (map[string]string, error) { return map[string]string{"amd64": "d"}, nil }
func (agents) Packed(string) ([]byte, error)           { return nil, errors.New("none") }

// says is a host that answers with a clock that is off by so much, and without
// tools.
func says(off time.Duration, missing ...string) func([]string) sdk.Result {
	return func([]string) sdk.Result {
		now := time.Now().Add(off)
		text := fmt.Sprintf("%s\n%d.%09d\n", odd, now.Unix(), now.Nanosecond())
		for _, m := range missing {
			text += m + "\n"
		}
		return sdk.Result{Stdout: []byte(text)}
	}
}

func prints(text string) func([]string) sdk.Result {
	return func([]string) sdk.Result { return sdk.Result{Stdout: []byte(text)} }
}

// TestFirstLook: what a host answers, or does not, becomes a finding that says
// so; a host that lies is not believed.
func TestFirstLook(t *testing.T) {
	tests := map[string]struct {
		answer func([]string) sdk.Result
		want   []string // CHECK STATE TEXT, the beginning
	}{
		"well":          {says(0), []string{"executor ok x runs commands", "tools ok all 16 are there", "clock ok as this host's"}},
		"fast clock":    {says(time.Hour), []string{"executor ok", "tools ok", "clock bad +3600.0 s from"}},
		"slow clock":    {says(-time.Minute), []string{"executor ok", "tools ok", "clock bad -60.0 s"}},
		"a little off":  {says(5 * time.Second), []string{"clock ok +5.0 s", "executor ok", "tools ok"}},
		"no tools":      {says(0, "gzip", "mariabackup|xtrabackup"), []string{"tools bad not there: gzip, mariabackup|xtrabackup", "executor ok", "clock ok"}},
		"busybox":       {prints(odd + "\n" + fmt.Sprint(time.Now().Unix()) + ".%N\n"), []string{"clock ok", "executor ok", "tools ok"}},
		"out of reach":  {nil, []string{"executor bad the way is closed"}},
		"no exit":       {func([]string) sdk.Result { return sdk.Result{Err: &sdk.Error{Message: "it hangs"}} }, []string{"executor bad it hangs"}},
		"a banner":      {prints("Welcome!\n" + odd + "\n1\n"), []string{`executor bad a command through executor x did not come through exactly (exit code 0): the argument`}},
		"cut":           {prints(odd), []string{"executor bad"}},
		"silent":        {prints(""), []string{"executor bad"}},
		"no time":       {prints(odd + "\n-1\n"), []string{"executor bad"}},
		"another tool":  {prints(odd + "\n1\n\x1b[2J\n"), []string{"executor bad"}},
		"without bound": {prints(odd + "\n1\n" + strings.Repeat("gzip\n", 1000)), []string{"executor bad"}},
		"a nan":         {prints(odd + "\nNaN\n"), []string{"executor bad"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := &site{answers: map[string]func([]string) sdk.Result{"h": tt.answer}}
			var got []string
			well, err := Run(t.Context(), Request{Hosts: []Host{{Executor: "x", Host: "h"}}, Mode: "m"}, Deps{Plugins: s, Agents: agents{}}, func(f Finding) {
				if f.Check != "agent" {
					got = append(got, fmt.Sprintf("%s %s %s", f.Check, f.State, f.Text))
				}
			})
			if err != nil || well {
				t.Errorf("well %v, %v: there is no agent", well, err)
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			for _, want := range tt.want {
				if !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, want) }) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

// TestSkipped: hosts on which no agent runs are not tried as pairs, and no
// host is left out.
func TestSkipped(t *testing.T) {
	s := &site{answers: map[string]func([]string) sdk.Result{"a": says(0), "b": says(0), "c": says(0)}}
	seen := map[string]int{}
	req := Request{Hosts: []Host{{Executor: "x", Host: "a"}, {Executor: "x", Host: "b"}, {Executor: "x", Host: "c"}}, Pairs: [][2]int{{0, 1}, {2, 0}}, Measure: 1}
	if well, err := Run(t.Context(), req, Deps{Plugins: s, Agents: agents{}}, func(f Finding) { seen[f.Host+f.To+" "+f.Check+" "+string(f.State)]++ }); well || err != nil {
		t.Error(well, err)
	}
	for _, want := range []string{"a executor ok", "b clock ok", "c tools ok", "a agent bad", "ab link skipped", "ab rate skipped", "ca link skipped"} {
		if seen[want] != 1 {
			t.Errorf("%q was told %d times", want, seen[want])
		}
	}
}

func TestRequest(t *testing.T) {
	h := Host{Executor: "x", Host: "a"}
	for name, req := range map[string]Request{
		"no hosts":         {},
		"pair with itself": {Hosts: []Host{h}, Pairs: [][2]int{{0, 0}}},
		"no such host":     {Hosts: []Host{h}, Pairs: [][2]int{{0, 1}}},
		"below zero":       {Hosts: []Host{h}, Pairs: [][2]int{{0, -1}}},
		"too many hosts":   {Hosts: make([]Host, MaxHosts+1)},
		"too many pairs":   {Hosts: []Host{h, h}, Pairs: make([][2]int, MaxPairs+1)},
	} {
		if _, err := Run(t.Context(), req, Deps{}, nil); !errors.Is(err, sdk.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzFirst: whatever a host prints, only tools that were asked for are
// missing, each once at most, and the time is one.
func FuzzFirst(f *testing.F) {
	tools := []string{"sh", "a|b"}
	f.Add([]byte(odd + "\n1700000000.5\nsh\n"))
	f.Add([]byte(odd + "\n1e300\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		got, err := parseFirst(out, tools)
		if err != nil {
			return
		}
		if got.time.Unix() < 0 || len(got.missing) > len(tools) || slices.ContainsFunc(got.missing, func(m string) bool { return !slices.Contains(tools, m) }) {
			t.Fatalf("%q became %+v", out, got)
		}
	})
}
