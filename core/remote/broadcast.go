package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// Broadcast hands one request to the agents of hosts and returns an answer
// for each host. It makes one call for each executor; hosts whose agents lie
// elsewhere than the others' need one of their own, because no host is ever
// told to run what another one named. A host's silence holds up nobody but
// the return, which ctx and the executor's limits bound. Request.Wait is cut
// to what the executor allows.
func (f *Fleet) Broadcast(ctx context.Context, req control.Request, hosts ...string) map[string]Answer {
	answers := newAnswers(len(hosts))
	f.Stream(ctx, req, answers.take, hosts...)
	return answers.byHost
}

// Stream is Broadcast for who does not wait for the slowest: take gets the
// answers in batches, each host's once, from several goroutines at once. Where
// no host is slow that is one batch for each executor. Stream returns when the
// last take has returned.
func (f *Fleet) Stream(ctx context.Context, req control.Request, take func(map[string]Answer), hosts ...string) {
	type group struct {
		engine *engine
		place  Place
	}
	groups, unknown := map[group][]string{}, map[string]Answer{}
	for _, name := range hosts {
		h := f.hosts[name]
		if h == nil || h.place.Program == "" {
			unknown[name] = Answer{Err: &sdk.Error{Kind: sdk.KindInternal, Host: name, Message: "the host was not probed"}}
			continue
		}
		g := group{h.engine, h.place}
		groups[g] = append(groups[g], name)
	}
	if len(unknown) > 0 {
		take(unknown)
	}
	var wg sync.WaitGroup
	for g, names := range groups {
		wg.Go(func() { g.engine.message(ctx, names, g.place, req, take) })
	}
	wg.Wait()
}

// message hands a request to hosts of one executor whose agents lie at the
// same place.
func (e *engine) message(ctx context.Context, hosts []string, place Place, req control.Request, take func(map[string]Answer)) {
	req.Wait = min(req.Wait, e.longestWait())
	data, err := control.EncodeRequest(&req)
	if err != nil {
		failed := make(map[string]Answer, len(hosts))
		for _, h := range hosts {
			failed[h] = Answer{Err: &sdk.Error{Kind: sdk.KindInternal, Host: h, Message: err.Error()}}
		}
		take(failed)
		return
	}
	if len(data) <= e.traits.MaxStdin {
		e.ask(ctx, hosts, sdk.Command{Argv: []sdk.Raw{place.Program, sdk.Raw(req.Verb)}, Stdin: data}, take)
		return
	}
	sum := sha256.Sum256(data)
	e.putNew(ctx, hosts, newFile{dir: place.StateDir + "/in", content: data}, func(path sdk.Raw, names []string) {
		argv := []sdk.Raw{place.Program, sdk.Raw(req.Verb), "--message", path, "--digest", sdk.Raw(hex.EncodeToString(sum[:]))}
		e.ask(ctx, names, sdk.Command{Argv: argv}, take)
	}, func(host string, err *sdk.Error) { take(map[string]Answer{host: {Err: err}}) })
}

// ask runs an agent's command and hands on its replies, in batches as of each.
func (e *engine) ask(ctx context.Context, hosts []string, cmd sdk.Command, take func(map[string]Answer)) {
	e.stream(ctx, hosts, cmd, func(results map[string]sdk.Result) {
		got := make(map[string]Answer, len(results))
		for host, res := range results {
			reply, err := readReply(host, cmd.Argv[0], res)
			got[host] = Answer{Reply: reply, Err: err}
		}
		take(got)
	})
}

// readReply reads what an agent printed. The host may be hostile: the output
// is bounded by the executor's limits and checked by control's decoder.
func readReply(host string, program sdk.Raw, res sdk.Result) (*control.Reply, *sdk.Error) {
	switch {
	case res.Err != nil:
		return nil, res.Err
	case res.Truncated:
		return nil, &sdk.Error{Kind: sdk.KindUnsupported, Host: host, Message: "the agent's answer is longer than the executor can carry"}
	case res.ExitCode == 127 && len(res.Stdout) == 0:
		return nil, &sdk.Error{Kind: sdk.KindNotFound, Host: host, Stderr: tail(res.Stderr),
			Message: fmt.Sprintf("the agent %s is not there any more", program.Display()), Hint: "run the command again: it is placed anew"}
	case res.ExitCode != 0 && len(res.Stdout) == 0:
		return nil, &sdk.Error{Kind: sdk.KindCrashed, Host: host, Stderr: tail(res.Stderr),
			Message: fmt.Sprintf("the agent %s ended with exit code %d and no answer", program.Display(), res.ExitCode)}
	}
	reply, err := control.DecodeReply(bytes.NewReader(res.Stdout))
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindInternal, Host: host, Stderr: tail(res.Stderr),
			Message: fmt.Sprintf("the agent %s answered something else than expected: %v", program.Display(), err),
			Hint:    "see whether something prints on each login there"}
	}
	if reply.Error != nil {
		reply.Error.Host = host
		return nil, reply.Error
	}
	return reply, nil
}

// answers collects answers from several goroutines.
type answers struct {
	mu     sync.Mutex
	byHost map[string]Answer
}

func newAnswers(n int) *answers { return &answers{byHost: make(map[string]Answer, n)} }

func (a *answers) set(host string, answer Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.byHost[host] = answer
}

// take is set for several hosts.
func (a *answers) take(more map[string]Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(a.byHost, more)
}

// of is the answer of a host; none yet is an error.
func (a *answers) of(host string) Answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	if answer, ok := a.byHost[host]; ok {
		return answer
	}
	return Answer{Err: &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "the host was not asked"}}
}

// Retry broadcasts and asks the hosts that could not be reached again, up to
// tries times in all, each time a little later; the request's Call makes the
// repeat harmless. It returns the last answer of each host.
func (f *Fleet) Retry(ctx context.Context, tries int, req control.Request, hosts ...string) map[string]Answer {
	answers := f.Broadcast(ctx, req, hosts...)
	pause := 500 * time.Millisecond
	for try := 1; try < tries; try++ {
		var again []string
		for _, h := range hosts {
			if a := answers[h]; a.Err != nil && Transient(a.Err) {
				again = append(again, h)
			}
		}
		if len(again) == 0 || !sleep(ctx, pause) {
			break
		}
		pause = min(2*pause, 5*time.Second)
		for h, a := range f.Broadcast(ctx, req, again...) {
			answers[h] = a
		}
	}
	return answers
}

// Transient reports whether an error is one of the way to the host, so that
// asking again may help.
func Transient(err *sdk.Error) bool {
	switch err.Kind {
	case sdk.KindUnreachable, sdk.KindTimeout, sdk.KindCrashed:
		return true
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tail returns the last lines of a command's stderr, safe to show.
func tail(stderr []byte) string {
	const most = 2 << 10
	s := strings.TrimSpace(string(stderr))
	if len(s) > most {
		s = s[len(s)-most:]
	}
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f)) {
			return r
		}
		return '?'
	}, s)
}
