package doctor

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// odd is an argument that only an exact executor brings through.
const odd = `a  b'c"d$e\f` + "`g`" + `*?[h]{i,j};k&l|m>n~#` + "\tö"

// firstScript says on a host: the argument that it got, the time, and which of
// the tools that follow are not there.
const firstScript = `PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
printf '%s\n' "$1"; shift
date +%s.%N
for t; do
	found=
	IFS='|'; for one in $t; do command -v "$one" >/dev/null 2>&1 && found=1; done
	[ "$found" ] || printf '%s\n' "$t"
done`

// maxSkew is how far a clock may be off: rules expire and files are dated by
// it. A clock that is kept is right within milliseconds.
const maxSkew = 10 * time.Second

// firstLook runs one command on every host, through the executors alone: is
// the host reached, is the executor exact, what time is it there, and which
// tools are missing.
func (v *visit) firstLook(ctx context.Context) {
	argv := []sdk.Raw{"sh", "-c", firstScript, "transferpy", odd}
	for _, t := range v.tools {
		argv = append(argv, sdk.Raw(t))
	}
	var calls sync.WaitGroup
	for name, exec := range v.execs {
		var hosts []string
		for _, h := range v.req.Hosts {
			if h.Executor == name {
				hosts = append(hosts, h.Host)
			}
		}
		_, about, err := v.deps.Plugins.Executor(ctx, name)
		atOnce := len(hosts)
		if limit := about.Executor.MaxHosts; err == nil && limit > 0 {
			atOnce = limit
		}
		calls.Go(func() {
			for batch := range slices.Chunk(hosts, atOnce) {
				v.firstCall(ctx, name, exec, batch, argv)
			}
		})
	}
	calls.Wait()
}

// firstCall is firstLook of some hosts.
func (v *visit) firstCall(ctx context.Context, name string, exec sdk.Executor, hosts []string, argv []sdk.Raw) {
	var mu sync.Mutex
	pending := slices.Clone(hosts)
	began := time.Now()
	err := exec.Run(ctx, hosts, sdk.Command{Argv: argv}, func(r sdk.Result) {
		now := time.Now()
		mu.Lock()
		i := slices.Index(pending, r.Host)
		if i >= 0 {
			pending = slices.Delete(pending, i, i+1)
		}
		mu.Unlock()
		if i >= 0 { // else nobody has asked that host
			v.judgeFirst(name, r, began, now)
		}
	})
	for _, h := range pending {
		e := sdk.AsError(err)
		if e == nil {
			e = &sdk.Error{Kind: sdk.KindInternal, Message: "the executor told no result", Hint: "this is a mistake of the executor's plugin"}
		}
		v.failed(h, "executor", e)
	}
}

// judgeFirst takes one host's answer to the first call, which was made at
// began and answered at now.
func (v *visit) judgeFirst(executor string, r sdk.Result, began, now time.Time) {
	if r.Err != nil {
		v.failed(r.Host, "executor", r.Err)
		return
	}
	said, err := parseFirst(r.Stdout, v.tools)
	if r.ExitCode != 0 || err != nil {
		v.bad(r.Host, "executor", "see whether something prints on each login there, or changes what a command gets",
			"a command through executor %s did not come through exactly (exit code %d): %v", executor, r.ExitCode, err)
		return
	}
	v.ok(r.Host, "executor", 0, "%s runs commands, %s for one", executor, now.Sub(began).Round(time.Millisecond))
	if len(said.missing) > 0 {
		v.bad(r.Host, "tools", "install what has them", "not there: %s", strings.Join(said.missing, ", "))
	} else {
		v.ok(r.Host, "tools", 0, "all %d are there, those of type %s too", len(v.tools), v.req.Mode)
	}
	// The host read its clock somewhere between our two moments.
	within := now.Sub(began) / 2
	skew := said.time.Sub(began.Add(within))
	f := Finding{Host: r.Host, Check: "clock", State: OK, Value: int64(skew),
		Text: fmt.Sprintf("%+.1f s from this host's, give or take %.1f s", skew.Seconds(), within.Seconds())}
	if skew.Abs() <= within+50*time.Millisecond {
		f.Text = fmt.Sprintf("as this host's, within %.1f s", within.Seconds()+0.1)
	}
	if skew.Abs() > maxSkew+within {
		f.State, f.Advice = Bad, "mend the clock that is wrong: rules expire and files are dated by it"
	}
	v.found(f)
}

// first is what a host has said.
type first struct {
	time    time.Time
	missing []string
}

// parseFirst reads what firstScript prints. The host may be hostile.
func parseFirst(out []byte, tools []string) (first, error) {
	text, ended := strings.CutSuffix(string(out), "\n")
	lines := strings.Split(text, "\n")
	if !ended || len(lines) < 2 || len(lines) > 2+len(tools) {
		return first{}, fmt.Errorf("it printed %d lines", len(lines))
	}
	if lines[0] != odd {
		return first{}, fmt.Errorf("the argument %q became %.80q", odd, lines[0])
	}
	seconds, err := strconv.ParseFloat(strings.TrimRight(lines[1], ".%N"), 64) // busybox knows no %N
	if err != nil || math.IsNaN(seconds) || seconds < 0 || seconds > math.MaxUint32 {
		return first{}, fmt.Errorf("no time: %.40q", lines[1])
	}
	f := first{time: time.Unix(0, int64(seconds*float64(time.Second)))}
	for _, t := range lines[2:] {
		if !slices.Contains(tools, t) {
			return first{}, fmt.Errorf("no tool that was asked for: %.40q", t)
		}
		f.missing = append(f.missing, t)
	}
	return f, nil
}
