package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// contender is a way to copy sourceData into targetDir, which is empty.
type contender struct {
	name  string
	ours  bool
	fan   int      // to so many targets, of which all but the last are relays; 0: to one
	once  bool     // it takes so long that it runs in the first round alone
	tools []string // programs that it needs
	run   func(ctx context.Context, s *stage) error
}

// Names by which the marks find their contenders.
const (
	oursPlain    = "transferpy --no-compress"
	oursDefault  = "transferpy"
	oursUnread   = "transferpy --no-checksum"
	oursParallel = "transferpy --parallel-checksum"
	oursChain    = "transferpy to two targets"
	oursThree    = "transferpy to three targets"
	oursFour     = "transferpy to four targets"
	oursEight    = "transferpy to eight targets"
	oursSixteen  = "transferpy to sixteen targets"
	oursMany     = "transferpy to thirty-two targets"
	peerNC       = "tar | nc | tar"
	peerZstd     = "tar | zstd -1 | nc"
	peerSSH      = "tar | ssh | tar"
	peerRsync    = "rsync -a over ssh"
	peerVerified = "tar | nc | tar, sync, evict, b3sum"
	peerAsIs     = "transfer.py 1.2, as it is"
	peerRepaired = "transfer.py 1.2, repaired"
)

// contenders are all that there are, by name.
var contenders = map[string]contender{
	oursPlain:    ours(oursPlain, sourceData, "--no-compress"),
	oursDefault:  ours(oursDefault, sourceData),
	oursUnread:   ours(oursUnread, sourceData, "--no-checksum"),
	oursParallel: ours(oursParallel, sourceData, "--parallel-checksum"),
	oursChain:    chain(oursChain, sourceData, 2),
	oursThree:    chain(oursThree, sourceData, 3),
	oursFour:     chain(oursFour, sourceData, 4),
	oursEight:    chain(oursEight, sourceData, 8),
	oursSixteen:  chain(oursSixteen, sourceData, 16),
	oursMany:     chain(oursMany, sourceData, 32),
	peerNC:       {name: peerNC, tools: []string{"tar", "nc"}, run: stream("", "")},
	peerZstd:     {name: peerZstd, tools: []string{"tar", "nc", "zstd"}, run: stream("zstd -q -1 |", "zstd -q -d |")},
	peerSSH: {name: peerSSH, tools: []string{"tar", "ssh"}, run: onSource(
		"tar -cf - -C " + sourceDir + " data | ssh " + targetHost + " tar -xf - -C " + targetDir)},
	peerRsync: {name: peerRsync, tools: []string{"rsync", "ssh"}, run: onSource(
		"rsync -a " + sourceData + " " + targetHost + ":" + targetDir + "/")},
	peerVerified: {name: peerVerified, tools: []string{"tar", "nc", "b3sum"}, run: verified},
	peerAsIs:     {name: peerAsIs, once: true, tools: referenceTools, run: reference("8", 3*time.Second)},
	peerRepaired: {name: peerRepaired, once: true, tools: referenceTools, run: reference("8k", 0)},
}

// fixed is our transfer of 1 MB, which shows what does not grow with the data.
var fixed = ours("transferpy, 1 MB", sourceTree)

// some are contenders by name, in that order.
func some(names ...string) []contender {
	var list []contender
	for _, name := range names {
		c, known := contenders[name]
		if !known {
			panic("no contender " + name) // a slip in this package's own tables
		}
		list = append(list, c)
	}
	return list
}

// ours copies a directory with the transferpy under test.
func ours(name, source string, flags ...string) contender {
	return contender{name: name, ours: true, run: transferpy(source, flags, targetHost)}
}

// chain copies it to so many targets, each of which passes it on to the next.
func chain(name, source string, targets int) contender {
	return contender{name: name, ours: true, fan: targets, run: transferpy(source, nil, targetHosts(targets)...)}
}

// targets are the hosts that it copies to.
func (c contender) targets() []string { return targetHosts(max(1, c.fan)) }

// transferpy runs it on the control host.
func transferpy(source string, flags []string, targets ...string) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		argv := append([]string{"transferpy", "--config", "/dev/null", "--output", "json", "--progress", "never"}, flags...)
		argv = append(argv, sourceHost+":"+source)
		for _, host := range targets {
			argv = append(argv, host+":"+targetDir)
		}
		cmd := s.lab.Cmd(lab.Control, argv...)
		var output bytes.Buffer
		cmd.Stdout, cmd.Stderr = &output, &output
		s.began = time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		defer stop()
		if err := cmd.Wait(); err != nil {
			text := bytes.TrimSpace(output.Bytes())
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), errors.Join(err, ctx.Err()), text[max(0, len(text)-1500):])
		}
		return nil
	}
}

// onSource runs a script on the source.
func onSource(script string) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		s.began = time.Now()
		return s.do(ctx, sourceHost, script)
	}
}

// stream is tar through nc, with filters before and behind it.
func stream(before, behind string) func(context.Context, *stage) error {
	receive := fmt.Sprintf("nc -l -p %d | %s tar -xf - -C %s", dataPort, behind, targetDir)
	send := fmt.Sprintf("tar -cf - -C %s data | %s nc -N %s %d", sourceDir, before, targetHost, dataPort)
	return func(ctx context.Context, s *stage) error { return s.pair(ctx, receive, send, 0) }
}

// reference is transfer.py's own pipeline for a directory with its defaults
// (compressed, encrypted), without its checks before and after and without
// its checksum. pause is how long it waits for its listener.
func reference(buffer string, pause time.Duration) func(context.Context, *stage) error {
	openssl := "openssl enc %s -chacha20 -pass pass:benchmark -bufsize " + buffer + " -iter 310000"
	receive := fmt.Sprintf("cd %s && nc -4 -l -w 300 -p %d | "+openssl+" | pigz -c -d | tar xf -", targetDir, dataPort, "-d")
	send := fmt.Sprintf("cd %s && tar cf - data | pigz -c | "+openssl+" | nc -4 -q 0 -w 300 %s %d", sourceDir, "", targetHost, dataPort)
	return func(ctx context.Context, s *stage) error { return s.pair(ctx, receive, send, pause) }
}

var referenceTools = []string{"tar", "pigz", "openssl", "nc"}

// pair runs a listener and then a sender; the time begins when the listener
// listens, and ends with the later of them.
func (s *stage) pair(ctx context.Context, receive, send string, pause time.Duration) error {
	listener, err := s.start(targetHost, receive)
	if err != nil {
		return err
	}
	err = s.listens(ctx)
	s.began = time.Now()
	if err == nil {
		time.Sleep(pause)
		err = s.do(ctx, sourceHost, send)
	}
	if err != nil {
		listener.kill()
	}
	return errors.Join(err, listener.wait(ctx))
}

// verified is tar through nc and then what it takes to know that it is on the
// target's disk.
func verified(ctx context.Context, s *stage) error {
	if err := stream("", "")(ctx, s); err != nil {
		return err
	}
	if err := evict(s.path(targetHost, filepath.Join(targetDir, "data"))); err != nil {
		return err
	}
	return s.do(ctx, targetHost, "cd "+targetDir+" && find . -type f -print0 | xargs -0 b3sum >/dev/null")
}
