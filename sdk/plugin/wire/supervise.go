package wire

import (
	"context"
	"time"
)

// Limits are the times within which a plugin must show a sign of life. A call
// that shows none in its time is a hang. A caller's own deadline comes first
// where it is nearer, and is no hang.
type Limits struct {
	Start     time.Duration // from the process's start to its handshake
	Describe  time.Duration // Describe
	Configure time.Duration // Configure
	Pure      time.Duration // Questions, Plan, Expand: no host is asked
	Idle      time.Duration // other calls: between two requests to the hosts
	Grace     time.Duration // Run and Put: between two results, beyond the command's own time
}

// DefaultLimits are the limits that the documentation promises to authors.
var DefaultLimits = Limits{
	Start:     10 * time.Second,
	Describe:  10 * time.Second,
	Configure: 30 * time.Second,
	Pure:      30 * time.Second,
	Idle:      5 * time.Minute,
	Grace:     30 * time.Second,
}

// Supervisor watches over the calls to one plugin. The owner of the plugin's
// process implements it.
type Supervisor interface {
	// Watch begins to watch one call: it may last as long as ctx does, and
	// show no sign of life for idle. The returned context ends with ctx, with
	// the plugin, or when the call hangs; its cause tells which. End must be
	// called.
	Watch(ctx context.Context, call string, idle time.Duration) (context.Context, Watch)
}

// Watch is one call being watched. Its methods may be called from several
// goroutines.
type Watch interface {
	// Alive is a sign of life: the idle time begins anew.
	Alive()
	// Hold stops the idle time until release: the core works for the plugin.
	Hold() (release func())
	// End ends the watch, and explains err where the plugin died or hung; an
	// error for another reason is returned as it is, nil as nil.
	End(err error) error
}

// Unsupervised watches nothing: for a plugin in the same process.
type Unsupervised struct{}

// Watch implements Supervisor.
func (Unsupervised) Watch(ctx context.Context, _ string, _ time.Duration) (context.Context, Watch) {
	return ctx, unwatched{}
}

type unwatched struct{}

func (unwatched) Alive()              {}
func (unwatched) Hold() func()        { return func() {} }
func (unwatched) End(err error) error { return err }
