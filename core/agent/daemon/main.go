// Package daemon is the agent's program: the short-lived commands by which
// the controller reaches a host, and the long-lived process that holds one
// agent, its lease and its undos. What moves data is package agent.
package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/facts"
	"github.com/transferpy/transferpy/sdk"
)

// probeFor bounds a probe: executors commonly allow one call 30 seconds.
const probeFor = 25 * time.Second

// serveVerb starts the long-lived process; only prepare calls it.
const serveVerb = "serve"

var verbs = []control.Verb{
	control.VerbProbe, control.VerbPrepare, control.VerbStart, control.VerbDo, control.VerbStatus,
	control.VerbBegin, control.VerbCommit, control.VerbStop, control.VerbRecover,
	control.VerbManifest, control.VerbVerify, control.VerbRoute,
}

// Main runs one invocation of transferpy-agent and returns its exit code: 0
// when a reply was printed on stdout, whatever it says, 1 when none could
// be, 2 when the arguments are wrong.
//
//	transferpy-agent [--state-dir DIR] VERB [--message PATH --digest SHA256]
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	inv, err := parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "transferpy-agent: %v\n", err)
		return 2
	}
	if inv.verb == serveVerb {
		return serveMain(stdin, stderr)
	}
	// A command that is interrupted kills what it has started; the agents go
	// on, and the controller asks again.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	reply := answer(ctx, inv, stdin)
	data, err := control.EncodeReply(reply)
	if err != nil {
		data, err = control.EncodeReply(&control.Reply{Error: sdk.AsError(fmt.Errorf("the answer cannot be sent: %w", err))})
	}
	if err == nil {
		_, err = stdout.Write(data)
	}
	if err != nil {
		fmt.Fprintf(stderr, "transferpy-agent: write the answer: %v\n", err)
		return 1
	}
	return 0
}

// invocation is a parsed command line.
type invocation struct {
	verb     string
	stateDir string // empty: the usual place
	message  string // empty: the request is on stdin
	digest   string
}

func parse(args []string) (*invocation, error) {
	inv := &invocation{}
	set := flag.NewFlagSet("transferpy-agent", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&inv.stateDir, "state-dir", "", "")
	set.StringVar(&inv.message, "message", "", "")
	set.StringVar(&inv.digest, "digest", "", "")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	inv.verb = set.Arg(0)
	if set.NArg() > 1 {
		if err := set.Parse(set.Args()[1:]); err != nil {
			return nil, err
		}
		if set.NArg() > 0 {
			return nil, fmt.Errorf("what is %q?", set.Arg(0))
		}
	}
	if inv.verb != serveVerb && !slices.Contains(verbs, control.Verb(inv.verb)) {
		return nil, fmt.Errorf("no such verb %q: one of %v is needed", inv.verb, verbs)
	}
	if (inv.message == "") != (inv.digest == "") {
		return nil, errors.New("--message and --digest go together")
	}
	return inv, nil
}

// answer handles one request. All that goes wrong is in the reply.
func answer(ctx context.Context, inv *invocation, stdin io.Reader) *control.Reply {
	reply, err := handle(ctx, inv, stdin)
	if err != nil {
		return &control.Reply{Error: sdk.AsError(err)}
	}
	return reply
}

func handle(ctx context.Context, inv *invocation, stdin io.Reader) (*control.Reply, error) {
	state, err := openState(inv.stateDir)
	if err != nil {
		return nil, err
	}
	q, err := readRequest(state, inv, stdin)
	if err != nil {
		return nil, err
	}
	switch {
	case q.Verb == control.VerbProbe:
		return probe(ctx, state, q.Probe)
	case q.Verb == control.VerbDo && q.Transfer == "":
		return doHere(ctx, state, q.Do)
	case q.Verb == control.VerbRoute:
		return route(ctx, state, q.Route)
	case q.Verb == control.VerbPrepare:
		return prepare(ctx, state, q)
	case q.Verb == control.VerbRecover:
		return recoverAgents(ctx, state, q)
	}
	return deliver(ctx, state, q)
}

func probe(ctx context.Context, state *state, p *control.Probe) (*control.Reply, error) {
	f, err := facts.Host(state.path)
	if err != nil {
		return nil, fmt.Errorf("facts of the host: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	facts.Answer(ctx, f, p)
	return &control.Reply{Facts: f}, nil
}

// doHere runs commands without an agent: read-only ones, since nobody would
// be there to undo.
func doHere(ctx context.Context, state *state, d *control.Do) (*control.Reply, error) {
	f, err := facts.Host(state.path)
	if err != nil {
		return nil, fmt.Errorf("facts of the host: %w", err)
	}
	reply := &control.Reply{}
	part, mine := d.Parts[f.Instance]
	if !mine {
		return reply, nil
	}
	room := maxOutput
	for _, p := range append([]control.DoPart{part}, part.Then...) {
		if p.Undo != nil {
			return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "a change needs an agent that keeps its undo; there is none before prepare"}
		}
		reply.Done = append(reply.Done, control.DoResult{Part: f.Instance, Results: runCommands(ctx, p.Commands, false, &room)})
	}
	return reply, nil
}
