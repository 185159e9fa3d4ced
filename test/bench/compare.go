package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// run is what one run of one contender took.
type run struct {
	wall       time.Duration
	source     time.Duration // CPU time on the source
	target     time.Duration // and on the targets together
	wire       int64         // bytes that the source has sent
	sourcePeak int64         // largest resident memory of an agent on the source; 0: not ours
	relayPeak  int64         // on a target with another behind it; 0: there was none
	targetPeak int64         // on the last target
}

// entry is a contender in a case, with its runs.
type entry struct {
	contender
	runs   []run
	failed error // the first failure; it is not run again
}

// result is a case that has been run.
type result struct {
	testCase
	size    size
	fixed   entry
	entries []entry
}

// compare runs cases and writes what they show.
func (o *options) compare(ctx context.Context, chosen []testCase, stdout, stderr io.Writer) error {
	o.load = busy()
	var results []*result
	var s *stage
	defer func() {
		if s != nil {
			s.lab.Close()
		}
	}()
	for i, c := range chosen {
		before := testCase{}
		if i > 0 {
			before = chosen[i-1]
		}
		renew := s == nil || c.fan() > s.fan || c.disk != before.disk || c.data != before.data || before.cap != "" && c.cap == ""
		if renew {
			if s != nil {
				if err := s.lab.Close(); err != nil {
					return err
				}
				s = nil
			}
			var err error
			if s, err = o.setUp(ctx, c, stderr); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		r, err := o.runCase(ctx, s, c, stderr)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		results = append(results, r)
		// Written after each case: a run of an hour may be interrupted.
		if err := o.publish(ctx, results, io.Discard); err != nil {
			return err
		}
	}
	if err := o.publish(ctx, results, stdout); err != nil {
		return err
	}
	return failures(results)
}

// failures are the contenders that failed, as one error.
func failures(results []*result) error {
	var errs []error
	for _, r := range results {
		for _, e := range append(r.entries, r.fixed) {
			if e.failed != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", r.name, e.name, e.failed))
			}
		}
	}
	return errors.Join(errs...)
}

// setUp makes hosts and the data of a case.
func (o *options) setUp(ctx context.Context, c testCase, stderr io.Writer) (*stage, error) {
	disk := ""
	if c.disk {
		disk = o.disk
	}
	if o.redo && c.data.kind == innodb {
		o.redo = false
		if err := os.RemoveAll(c.data.scaled(o.scale).kept(o.cache)); err != nil {
			return nil, err
		}
	}
	s, err := newStage(ctx, o.bin, disk, c.fan())
	if err != nil {
		return nil, err
	}
	s.profiles = o.keep
	fmt.Fprintf(stderr, "%s: making the data\n", c.name)
	if err := c.data.scaled(o.scale).make(ctx, s.path(sourceHost, sourceData), o.cache); err != nil {
		return nil, errors.Join(err, s.lab.Close())
	}
	return s, nil
}

// runCase runs a case in rounds, in each of which every contender has its
// turn, beginning with another one each time.
func (o *options) runCase(ctx context.Context, s *stage, c testCase, stderr io.Writer) (*result, error) {
	held, err := measure(s.path(sourceHost, sourceData))
	if err != nil {
		return nil, err
	}
	r := &result{testCase: c, size: held, fixed: entry{contender: fixed}}
	for _, p := range c.contenders {
		if o.wants(p.name) {
			r.entries = append(r.entries, entry{contender: p})
		}
	}
	if c.cap != "" {
		for _, host := range append([]string{sourceHost}, targetHosts(s.fan)...) {
			if err := s.lab.Cap(host, c.cap); err != nil {
				return nil, err
			}
		}
	}
	rounds := o.rounds
	if c.rounds > 0 {
		rounds = min(rounds, c.rounds)
	}
	tree := size{treeFiles, treeFiles * treeFileSize}
	// Once to place the agents; nobody's first run is measured with that.
	if _, err := s.measure(ctx, fixed, tree, c); err != nil {
		return nil, err
	}
	for round := range rounds {
		s.take(ctx, &r.fixed, tree, c, round, stderr)
		for i := range r.entries {
			e := &r.entries[(i+round)%len(r.entries)]
			s.take(ctx, e, held, c, round, stderr)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (o *options) wants(name string) bool {
	return o.only == "" || slices.ContainsFunc(strings.Split(o.only, ","), func(part string) bool { return strings.Contains(name, part) })
}

// take runs a contender for one round and tells it.
func (s *stage) take(ctx context.Context, e *entry, held size, c testCase, round int, stderr io.Writer) {
	if e.failed != nil || e.once && round > 0 || ctx.Err() != nil {
		return
	}
	one, err := s.measure(ctx, e.contender, held, c)
	if err != nil {
		e.failed = err
		fmt.Fprintf(stderr, "%s: round %d: %s: FAILED: %v\n", c.name, round+1, e.name, err)
		return
	}
	e.runs = append(e.runs, one)
	fmt.Fprintf(stderr, "%s: round %d: %s: %.2f s\n", c.name, round+1, e.name, one.wall.Seconds())
	if e.ours && e.name != fixed.name && s.profiles != "" {
		if err := s.tellProfiles(ctx, e.contender, c.name, round, stderr); err != nil {
			fmt.Fprintf(stderr, "%s: no profile: %v\n", c.name, err)
		}
	}
}

// measure runs a contender once, into a new directory and from a source that
// is not in the page cache, and makes sure that all has arrived.
func (s *stage) measure(ctx context.Context, p contender, held size, c testCase) (one run, err error) {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	for _, host := range p.targets() {
		target := s.path(host, targetDir)
		if err := os.Mkdir(target, 0o755); err != nil {
			return one, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	}
	if err := evict(s.path(sourceHost, sourceDir)); err != nil {
		return one, err
	}
	hosts := append([]string{sourceHost}, p.targets()...)
	if p.ours && s.profiles != "" {
		if err := s.askProfiles(hosts); err != nil {
			return one, err
		}
	}
	before, err := s.reading(ctx, c)
	if err != nil {
		return one, err
	}
	s.cpu = map[string]time.Duration{}
	unwatch := func() map[string]int64 { return nil }
	if p.ours {
		unwatch = s.watch(ctx, hosts)
	}
	err = p.run(ctx, s)
	one.wall = time.Since(s.began)
	one.peaks(p.targets(), unwatch())
	if err != nil {
		return one, err
	}
	if err := s.settle(ctx); err != nil {
		return one, err
	}
	after, err := s.reading(ctx, c)
	if err != nil {
		return one, err
	}
	one.source = after.source - before.source + s.cpu[sourceHost]
	one.target = after.target - before.target
	for _, host := range p.targets() {
		one.target += s.cpu[host]
	}
	one.wire = after.wire - before.wire
	for _, host := range p.targets() {
		got, err := measure(s.path(host, targetDir))
		if err == nil && got != held {
			err = fmt.Errorf("%d files with %d bytes have arrived on %s of %d with %d", got.files, got.bytes, host, held.files, held.bytes)
		}
		if err != nil {
			return one, err
		}
	}
	return one, nil
}

// peaks books the largest memory by what the hosts were.
func (r *run) peaks(targets []string, of map[string]int64) {
	last := len(targets) - 1
	r.sourcePeak, r.targetPeak = of[sourceHost], of[targets[last]]
	for _, relay := range targets[:last] {
		r.relayPeak = max(r.relayPeak, of[relay])
	}
}

// reading is what the kernel counts, at one time.
type reading struct {
	source, target time.Duration
	wire           int64
}

func (s *stage) reading(ctx context.Context, c testCase) (r reading, err error) {
	if r.source, err = s.hostCPU(sourceHost); err != nil {
		return r, err
	}
	for _, host := range targetHosts(s.fan) {
		used, err := s.hostCPU(host)
		if err != nil {
			return r, err
		}
		r.target += used
	}
	r.wire, err = s.sent(ctx, c.cap != "")
	return r, err
}
