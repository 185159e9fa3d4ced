package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// lockTries is how often recover tries to get the lock of an agent that has
// died, while others may be looking at it.
const lockTries = 20

// recoverAgents takes back what the dead agents of a transfer have left, or
// rolls forward what they had committed. Living agents are left alone.
func recoverAgents(ctx context.Context, state *state, q *control.Request) (*control.Reply, error) {
	dirs, err := listAgents(state, q.Transfer)
	if err != nil {
		return nil, err
	}
	reply := &control.Reply{Agents: []control.Answer{}}
	for _, d := range dirs {
		a := control.Answer{Agent: d.id}
		status, err := recoverAgent(ctx, d, q.Recover.Keep)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended by itself meanwhile
		}
		a.Status, a.Error = status, sdk.AsError(err)
		reply.Agents = append(reply.Agents, a)
	}
	reply.Agents = addResults(state, q.Transfer, reply.Agents)
	dropResults(state, q.Transfer)
	sweepRests(state, q.Transfer)
	if q.Recover.Keep {
		return reply, nil
	}
	failed, err := dropKept(ctx, state, q.Transfer)
	for d, why := range failed {
		reply.Agents = append(reply.Agents, control.Answer{Agent: d.id, Error: sdk.AsError(why)})
	}
	return reply, err
}

// recoverAgent replays the undos of one dead agent and removes its directory,
// unless what is in it is to be kept.
func recoverAgent(ctx context.Context, d agentDir, keep bool) (*control.Status, error) {
	lock, err := takeLock(ctx, d)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	log, err := undo.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	u := &undoing{keep: keep}
	err = log.Run(ctx, func(undo.Record) bool { return true }, u.undo)
	status := &control.Status{Change: control.ChangeGone, Members: u.settled(nil), Undos: log.Status(), Ended: err == nil}
	if err != nil {
		first := sdk.AsError(err)
		return status, &sdk.Error{Kind: first.Kind, Stderr: first.Stderr,
			Message: strings.ReplaceAll(err.Error(), "\n", "; "),
			Hint:    "mend it and recover again; what is left is recorded in " + d.path}
	}
	if u.keeps(d) {
		return status, nil
	}
	return status, d.remove()
}

// takeLock takes the lock of a dead agent.
func takeLock(ctx context.Context, d agentDir) (*os.File, error) {
	for range lockTries {
		lock, err := d.lock(unix.LOCK_EX)
		if errors.Is(err, os.ErrNotExist) {
			if _, e := os.Stat(d.path); e == nil { // an agent makes its lock first
				return os.OpenFile(filepath.Join(d.path, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			}
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return lock, err
		}
		if d.look() == alive {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil, &sdk.Error{Kind: sdk.KindExists,
		Message: fmt.Sprintf("agent %s is alive, or being recovered already; it was left alone", d.id),
		Hint:    "stop ends a living agent"}
}
