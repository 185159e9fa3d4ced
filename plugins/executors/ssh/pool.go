package ssh

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/transferpy/transferpy/sdk"
)

const (
	// sshd allows 10 sessions a connection; two are left to kill commands.
	sessionsAtOnce = 8
	killsAtOnce    = 2

	// maxJumps bounds a chain of jump hosts, and ends one that is a circle.
	maxJumps = 8

	// A connection on which nothing comes back is given up after the product
	// of these, unless ssh_config asks for others.
	defaultAliveInterval = 15 * time.Second
)

// pool keeps one connection a hop. It owns the goroutines of dialling and of
// the connections; close ends them and waits.
type pool struct {
	opts *options
	ctx  context.Context // ends with the pool
	stop context.CancelFunc
	wg   sync.WaitGroup

	known knownHosts

	mu    sync.Mutex
	conns map[hop]*attempt
}

// attempt is a connection that is being made or was made. conn and err are
// set when done is closed.
type attempt struct {
	done chan struct{}
	conn *conn
	err  *sdk.Error
}

// conn is a living connection to a host.
type conn struct {
	client *ssh.Client
	wg     *sync.WaitGroup // the pool's
	slots  chan struct{}   // one for each session
	kills  chan struct{}
	dead   chan struct{} // closed when the connection is gone
}

func newPool(opts *options) *pool {
	ctx, stop := context.WithCancel(context.Background())
	return &pool{opts: opts, ctx: ctx, stop: stop, conns: make(map[hop]*attempt)}
}

func (p *pool) close() {
	p.mu.Lock() // no attempt begins after this
	p.stop()
	p.mu.Unlock()
	p.wg.Wait()
}

// enter counts a call as one that close waits for; false if the pool is
// closed. Within it goroutines may be added to the pool's.
func (p *pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.wg.Add(1)
	return true
}

// get returns the living connection to a hop, or makes one. Callers that ask
// at once share one attempt and its failure; the next to ask after a failure
// tries anew. ctx ends the waiting alone.
func (p *pool) get(ctx context.Context, h hop) (*conn, *sdk.Error) {
	a, err := p.attempt(h)
	if err != nil {
		return nil, err
	}
	select {
	case <-a.done:
		return a.conn, a.err
	case <-ctx.Done():
		return nil, cancelled(ctx)
	}
}

// attempt returns the hop's attempt, a new one if there is none that lives.
func (p *pool) attempt(h hop) (*attempt, *sdk.Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return nil, &sdk.Error{Kind: sdk.KindCancelled, Message: "the executor is closed"}
	}
	if a := p.conns[h]; a != nil && a.usable() {
		return a, nil
	}
	a := &attempt{done: make(chan struct{})}
	p.conns[h] = a
	p.wg.Go(func() {
		a.conn, a.err = p.connect(h)
		close(a.done)
	})
	return a, nil
}

// usable reports whether the attempt is still under way or its connection
// lives.
func (a *attempt) usable() bool {
	select {
	case <-a.done:
	default:
		return true
	}
	if a.conn == nil {
		return false
	}
	select {
	case <-a.conn.dead:
		return false
	default:
		return true
	}
}

// connect makes a connection, through its jump hosts if it has some. They
// come from the pool too, so that a bastion is logged in to once.
func (p *pool) connect(h hop) (*conn, *sdk.Error) {
	if h.depth > maxJumps {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("more than %d jump hosts", maxJumps), Hint: "look for a circle of ProxyJump in ssh_config"}
	}
	s, err := p.opts.lookup(p.ctx, h)
	if err != nil {
		return nil, err
	}
	chain := s.proxyJump
	if h.via != "" {
		chain = h.via
	}
	client, err := p.dial(s, chain, h.depth)
	if err != nil {
		return nil, err
	}
	c := &conn{
		client: client,
		wg:     &p.wg,
		slots:  make(chan struct{}, sessionsAtOnce),
		kills:  make(chan struct{}, killsAtOnce),
		dead:   make(chan struct{}),
	}
	p.wg.Go(func() {
		client.Wait()
		close(c.dead)
	})
	p.wg.Go(func() { c.keepAlive(p.ctx, s) })
	return c, nil
}

func (p *pool) dial(s *settings, chain string, depth int) (*ssh.Client, *sdk.Error) {
	if chain == "" && s.proxyCommand != "" {
		nc, err := dialCommand(p.ctx, s, &p.wg)
		if err != nil {
			return nil, err
		}
		client, err := handshake(p.ctx, nc, s, &p.known)
		if err != nil {
			return nil, nc.(*proxied).explain(err)
		}
		return client, nil
	}
	if chain == "" {
		nc, err := dialTCP(p.ctx, s)
		if err != nil {
			return nil, err
		}
		return handshake(p.ctx, nc, s, &p.known)
	}
	before, last, more := cutLast(chain)
	jump, err := parseJump(last)
	if err != nil {
		return nil, err
	}
	if more {
		jump.via = before
	}
	jump.depth = depth + 1
	through, err := p.get(p.ctx, jump)
	if err != nil {
		return nil, &sdk.Error{Kind: err.Kind, Message: "its jump host " + last + ": " + err.Message, Hint: err.Hint, Stderr: err.Stderr}
	}
	nc, err := dialThrough(p.ctx, through.client, s)
	if err != nil {
		return nil, err
	}
	return handshake(p.ctx, nc, s, &p.known)
}

// cutLast splits a list at its last comma.
func cutLast(list string) (before, last string, more bool) {
	i := strings.LastIndexByte(list, ',')
	return list[:max(i, 0)], list[i+1:], i >= 0
}

// keepAlive asks the host for a sign of life and closes the connection when
// none comes, or when the pool ends.
func (c *conn) keepAlive(ctx context.Context, s *settings) {
	interval := s.aliveInterval
	if interval == 0 {
		interval = defaultAliveInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	// One goroutine asks, since the asking blocks; it ends with the
	// connection at the latest.
	ask, answered := make(chan struct{}), make(chan struct{}, 1)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer c.client.Close()
	defer close(ask)
	asking.Go(func() {
		for range ask {
			c.client.SendRequest("keepalive@openssh.com", true, nil)
			answered <- struct{}{}
		}
	})
	for missed, waiting := 0, false; missed < s.aliveCount; {
		select {
		case <-ctx.Done():
			return
		case <-c.dead:
			return
		case <-answered:
			missed, waiting = 0, false
		case <-tick.C:
			if waiting {
				missed++
				continue
			}
			waiting = true
			ask <- struct{}{}
		}
	}
}

func cancelled(ctx context.Context) *sdk.Error {
	return &sdk.Error{Kind: sdk.KindCancelled, Message: fmt.Sprintf("the call ended before the command did: %v", context.Cause(ctx))}
}
