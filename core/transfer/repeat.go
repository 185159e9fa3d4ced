package transfer

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/remote"
	"github.com/transferpy/transferpy/sdk"
)

// repeated is a call to one agent that is repeated until it is finished: so
// it may take longer than an executor lets one call last.
type repeated struct {
	fleet   *remote.Fleet
	host    string
	agent   string
	silence time.Duration         // how long the host may stay away
	running func(*control.Answer) // told of each answer before the last; may be nil
}

// ask returns the agent's last answer. The request keeps its Call.
func (c *repeated) ask(ctx context.Context, req control.Request) (*control.Answer, error) {
	wait, every := c.fleet.Patience()
	if c.running != nil { // somebody follows
		wait = min(wait, max(every, progressEvery))
	}
	req.Wait = wait
	heard := time.Now()
	for {
		began := time.Now()
		answer, err := c.once(ctx, req)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil && (!wayBack(err) || err.Kind == sdk.KindCrashed || time.Since(heard) > c.silence):
			return nil, err
		case err == nil && !answer.Running:
			return answer, nil
		case err == nil:
			heard = time.Now()
			if c.running != nil {
				c.running(answer)
			}
		default:
			every = max(every, time.Second)
		}
		if err := pause(ctx, every-time.Since(began)); err != nil {
			return nil, err
		}
	}
}

// wayBack reports whether asking an agent again may help: what can be mended
// while it works, be it by starting the ssh agent that holds the keys.
func wayBack(err *sdk.Error) bool { return remote.Transient(err) || err.Kind == sdk.KindAuth }

// once makes the call and picks the agent's answer.
func (c *repeated) once(ctx context.Context, req control.Request) (*control.Answer, *sdk.Error) {
	answer := c.fleet.Broadcast(ctx, req, c.host)[c.host]
	if answer.Err != nil {
		return nil, answer.Err
	}
	for i := range answer.Reply.Agents {
		a := &answer.Reply.Agents[i]
		if a.Agent != c.agent {
			continue
		}
		if a.Error != nil {
			return nil, atHost(a.Error, c.host)
		}
		return a, nil
	}
	return nil, &sdk.Error{Kind: sdk.KindCrashed, Host: c.host, Message: fmt.Sprintf("agent %s is not there any more", c.agent), Hint: "see the host's log for a kill or a restart"}
}
