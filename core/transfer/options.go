package transfer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// What stands where a request leaves something out.
const (
	defaultLease       = 5 * time.Minute
	defaultHold        = time.Hour
	defaultLinkTimeout = 30 * time.Second
	defaultRetryFor    = 3 * time.Minute
)

// complete fills in defaults and refuses what cannot be meant.
func (q *Request) complete() error {
	if q.Mode == "" {
		q.Mode = "file"
	}
	if q.Firewall == "" {
		q.Firewall = FirewallAuto
	}
	if q.Owner == "" {
		q.Owner = "name"
	}
	if q.Verify == "" {
		q.Verify = control.VerifyReadBack
	}
	if q.ControlLostFor == 0 {
		q.ControlLostFor = defaultHold
	}
	if q.LinkTimeout == 0 {
		q.LinkTimeout = defaultLinkTimeout
	}
	if q.RetryFor == 0 {
		q.RetryFor = defaultRetryFor
	}
	if len(q.Targets) == 0 {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "no target was named"}
	}
	for _, e := range q.endpoints() {
		if e.Host == "" || e.Path == "" || e.Executor == "" {
			return &sdk.Error{Kind: sdk.KindConfig, Host: e.Host, Message: fmt.Sprintf("%s:%s: host, path and executor are needed", e.Host, e.Path.Display())}
		}
	}
	return nil
}

// endpoints are the source and the targets, in the order of the chain.
func (q *Request) endpoints() []Endpoint {
	return append([]Endpoint{q.Source}, q.Targets...)
}

// transfer is the request as modes see it.
func (q *Request) transfer(id string) sdk.Transfer {
	t := sdk.Transfer{ID: id, Source: sdk.Endpoint{Host: q.Source.Host, Path: q.Source.Path}, Options: map[string]string{
		"compress":   strconv.FormatBool(q.Compress),
		"checksum":   strconv.FormatBool(q.Verify != control.VerifySigned),
		"verify":     string(q.Verify),
		"owner":      q.Owner,
		"stop_slave": strconv.FormatBool(q.StopSlave),
		"force_live": strconv.FormatBool(q.ForceLive),
	}}
	for _, e := range q.Targets {
		t.Targets = append(t.Targets, sdk.Endpoint{Host: e.Host, Path: e.Path})
	}
	return t
}

// settings are the knobs of the data plane. Data that is compressed already
// is not compressed again.
func (r *run) settings() control.Settings {
	codec, level := r.req.Codec, r.req.CodecLevel
	switch {
	case !r.req.Compress || r.plan.Compressed:
		codec, level = "none", 0
	case codec == "":
		codec = "auto"
	}
	return control.Settings{
		Encrypt: r.req.Encrypt, Codec: codec, CodecLevel: level, Verify: r.verify,
		LimitRate: r.req.LimitRate, LimitRead: r.req.LimitRead, Owner: r.req.Owner,
		SlowTarget: r.slowTarget(), DataNetworks: r.req.DataNetworks, LinkTimeout: r.req.LinkTimeout, OpenFor: r.openFor(), RetryFor: r.req.RetryFor,
	}
}

// slowTarget is what becomes of a target that holds the others up. A stream
// cannot be read again, so there it is waited for.
func (r *run) slowTarget() string {
	switch {
	case r.plan.Read.Builtin != sdk.BuiltinTree:
		return control.SlowWait
	case r.req.SlowTarget == "":
		return control.SlowDetach
	}
	return r.req.SlowTarget
}

// timings are the leases, which TRANSFERPY_TEST_LEASE shortens, the time between
// checkpoints, which TRANSFERPY_TEST_CHECKPOINT does, and how long firewall rules
// last, which TRANSFERPY_TEST_EXPIRY does; durations all.
func timings(q Request) (timing, error) {
	t := timing{lease: defaultLease, hold: q.ControlLostFor}
	lease, err := testDuration("TRANSFERPY_TEST_LEASE")
	if err != nil {
		return t, err
	}
	if lease > 0 {
		t.lease, t.hold = lease, min(lease, t.hold)
	}
	if t.checkpoint, err = testDuration("TRANSFERPY_TEST_CHECKPOINT"); err != nil {
		return t, err
	}
	t.expiry, err = testDuration("TRANSFERPY_TEST_EXPIRY")
	return t, err
}

// testDuration reads a duration from the environment; 0 where there is none.
func testDuration(name string) (time.Duration, error) {
	s := os.Getenv(name)
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("%s is no duration: %q", name, s)}
	}
	return d, nil
}

// startPlugins starts every plugin of the transfer before the first change,
// and makes the fleet of its hosts.
func (r *run) startPlugins(ctx context.Context) error {
	mode, _, err := r.deps.Plugins.Mode(ctx, r.req.Mode)
	if err != nil {
		return err
	}
	r.mode = mode
	if err := r.startFirewalls(ctx); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range r.req.endpoints() {
		if !seen[e.Host] {
			seen[e.Host] = true
			r.hosts = append(r.hosts, e.Host)
		}
	}
	r.fleet, err = newFleet(ctx, r.deps, r.req, func(host, arch, dir string) {
		r.emit(Event{Type: EventAgent, Host: host, Message: fmt.Sprintf("agent for %s placed in %s", arch, sdk.Raw(dir).Display())})
	})
	return err
}

// newFleet starts the executors of a request.
func newFleet(ctx context.Context, deps Deps, req Request, placed func(host, arch, dir string)) (*remote.Fleet, error) {
	options := remote.Options{Agents: deps.Agents, AgentDirs: deps.AgentDirs, Placed: placed}
	seen := map[string]bool{}
	for _, e := range req.endpoints() {
		options.Hosts = append(options.Hosts, remote.Name{Executor: e.Executor, Host: e.Host})
		if seen[e.Executor] {
			continue
		}
		seen[e.Executor] = true
		exec, about, err := deps.Plugins.Executor(ctx, e.Executor)
		if err != nil {
			return nil, err
		}
		options.Executors = append(options.Executors, remote.Executor{Name: e.Executor, Exec: &logged{&lasting{exec, deps.Plugins, e.Executor}, deps.Log}, Traits: about.Executor})
	}
	return remote.New(options)
}
