package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/ownsocket"
	"github.com/transferpy/transferpy/sdk"
)

// answerSlack is how much longer than its Wait an agent may take to answer.
const answerSlack = 60 * time.Second

// parallelAgents bounds how many agents one command talks to at once.
const parallelAgents = 32

// deliver hands a request to all agents of its transfer here, and collects
// their answers.
func deliver(ctx context.Context, state *state, q *control.Request) (*control.Reply, error) {
	dirs, err := listAgents(state, q.Transfer)
	if err != nil {
		return nil, err
	}
	message, err := control.EncodeRequest(q)
	if err != nil {
		return nil, err
	}
	d := &delivery{request: q, message: message, nudge: make(chan struct{})}
	slots := make(chan struct{}, parallelAgents)
	found := make([]*control.Answer, len(dirs))
	var wait sync.WaitGroup
	for i, dir := range dirs {
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			found[i] = d.ask(ctx, dir)
			if found[i] != nil && d.wakes(found[i]) {
				d.wake()
			}
		})
	}
	wait.Wait()
	reply := &control.Reply{Agents: []control.Answer{}}
	for _, a := range found {
		if a != nil {
			reply.Agents = append(reply.Agents, *a)
		}
	}
	if tellsOfTheEnd(q) {
		reply.Agents = addResults(state, q.Transfer, reply.Agents)
		if q.Verb == control.VerbStop && !q.Stop.SourceDone {
			dropResults(state, q.Transfer)
		}
	}
	return reply, nil
}

// tellsOfTheEnd reports whether an agent that has ended would be of interest.
func tellsOfTheEnd(q *control.Request) bool {
	return q.Verb == control.VerbStatus || q.Verb == control.VerbCommit || q.Verb == control.VerbStop
}

// delivery is one request on its way to several agents.
type delivery struct {
	request *control.Request
	message []byte
	once    sync.Once
	nudge   chan struct{} // closed when the others are to answer at once
}

func (d *delivery) wake() { d.once.Do(func() { close(d.nudge) }) }

// wakes reports whether the others should not be waited for any longer. They
// are when each has work of its own to finish.
func (d *delivery) wakes(a *control.Answer) bool {
	switch d.request.Verb {
	case control.VerbDo, control.VerbCommit, control.VerbStop, control.VerbManifest, control.VerbVerify:
		return false
	}
	if a.Gone {
		return d.request.Seen[a.Agent] < control.ChangeGone
	}
	if a.Error != nil || d.request.Until == "" {
		return true
	}
	return a.Status != nil && (anyFailed(a.Status.Members) || len(a.Status.Closed) > 0)
}

func anyFailed(members []control.MemberStatus) bool {
	for _, m := range members {
		if m.Phase == control.PhaseFailed {
			return true
		}
	}
	return false
}

// ask asks one agent. It returns nil when the agent has ended by itself.
func (d *delivery) ask(ctx context.Context, dir agentDir) *control.Answer {
	var err error
	// An agent that is just ending, or is just being recovered, has its lock
	// but no socket; a moment later it is clear which.
	for range 5 {
		switch dir.look() {
		case away:
			return nil
		case dead:
			return gone(dir)
		}
		var a *control.Answer
		if a, err = d.exchange(ctx, dir); err == nil {
			return a
		}
		if ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return &control.Answer{Agent: dir.id, Error: &sdk.Error{
		Kind:    sdk.KindUnreachable,
		Message: fmt.Sprintf("agent %s is alive but does not answer: %v", dir.id, err),
		Hint:    "it may be ending or being recovered: ask again",
	}}
}

// gone is the answer for an agent that cannot give one.
func gone(dir agentDir) *control.Answer {
	return &control.Answer{
		Agent:  dir.id,
		Gone:   true,
		Status: &control.Status{Change: control.ChangeGone},
		Error: &sdk.Error{
			Kind:    sdk.KindCrashed,
			Message: fmt.Sprintf("agent %s has died without cleaning up", dir.id),
			Hint:    "recover takes back what it has left",
			Stderr:  dir.lastWords(),
		},
	}
}

// exchange sends the request and waits for the reply.
func (d *delivery) exchange(ctx context.Context, dir agentDir) (*control.Answer, error) {
	conn, err := ownsocket.Dial(ctx, dir.path, socketName, transferTime)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if !ownsocket.SameUser(conn) {
		return nil, errors.New("its socket belongs to another user")
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := send(conn, d.message); err != nil {
		return nil, err
	}
	answered := make(chan struct{})
	nudged := make(chan struct{})
	go func() {
		defer close(nudged)
		select {
		case <-d.nudge:
			conn.CloseWrite()
		case <-answered:
		}
	}()
	data, err := receive(conn, d.request.Wait+answerSlack)
	close(answered)
	<-nudged
	if err != nil {
		return nil, reworded(err)
	}
	reply, err := control.DecodeReply(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if reply.Error != nil {
		return &control.Answer{Agent: dir.id, Error: reply.Error}, nil
	}
	if len(reply.Agents) != 1 || reply.Agents[0].Agent != dir.id {
		return nil, errors.New("it answered for another agent")
	}
	return &reply.Agents[0], nil
}

func reworded(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closed the connection")
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	}
	return err
}
