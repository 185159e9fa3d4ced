// Package plugin makes a plugin of an implementation of one of sdk's
// interfaces. The main of a plugin is
//
//	func main() { plugin.Serve(myexecutor.New()) }
//
// and its file is called transferpy-KIND-NAME. Logs go through log or
// log/slog; what is printed to standard output or standard error after Serve
// was called reaches the core's log as well. Never print to standard output
// before Serve: the first line there is the handshake with the core.
package plugin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// handlerGrace is how long Serve waits for calls that were cancelled by the
// end of the connection, so that they can clean up. The core kills what is
// left of the process 2 s after it asked it to end.
const handlerGrace = 1500 * time.Millisecond

// Serve serves p to the core and returns when the core is done with it; main
// should return then. Where the process was not started by the core, or p is
// not what its Describe says, Serve explains it on standard error and exits
// with status 1.
//
// When the core is gone, even by SIGKILL, the process is ended at once, with
// its process group if it leads one.
func Serve(p sdk.Plugin) {
	if err := wire.Check(p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(wire.CookieKey) != wire.CookieValue {
		d := p.Describe()
		fmt.Fprintf(os.Stderr, "This is a plugin of transferpy, %s %s %s: transferpy starts it.\n"+
			"Put it as transferpy-%s-%s into a plugin directory, and see transferpy plugin list.\n",
			d.Kind, d.Name, d.Version, d.Kind, d.Name)
		os.Exit(1)
	}
	holdLifeline()
	logs := os.Stderr // go-plugin replaces os.Stderr later
	slog.SetDefault(slog.New(logHandler(logs)))

	var calls running
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  wire.Handshake,
		VersionedPlugins: wire.Served(p),
		Logger: hclog.New(&hclog.LoggerOptions{
			Level: hclog.Warn, Output: logs, JSONFormat: true,
		}),
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			var once sync.Once
			return grpc.NewServer(append(opts, wire.ServerOptions(func() func() {
				// By now the handshake is over. go-plugin would carry output
				// to the core by a stream, where the last lines before a
				// crash get lost: send it the short way.
				once.Do(func() {
					os.Stdout, os.Stderr = logs, logs
					forgetHandshake()
				})
				return calls.enter()
			})...)...)
		},
	})
	calls.wait(handlerGrace)
}

// holdLifeline ends the process when the pipe that the core holds open is
// closed: by the core's end, however it came.
func holdLifeline() {
	fd, err := strconv.Atoi(os.Getenv(wire.LifelineEnv))
	if err != nil || fd < 3 {
		return // started by hand; Serve says so
	}
	syscall.CloseOnExec(fd) // a child of ours has no business with it
	pipe := os.NewFile(uintptr(fd), "lifeline")
	sockets := filepath.Dir(os.Getenv(goplugin.EnvUnixSocketDir))
	// This goroutine lives as long as the process does.
	go func() {
		io.Copy(io.Discard, pipe)
		if strings.HasPrefix(filepath.Base(sockets), wire.DirPrefix) {
			os.RemoveAll(sockets) // which the core would have done
		}
		if syscall.Getpgrp() == os.Getpid() {
			syscall.Kill(0, syscall.SIGKILL)
		}
		os.Exit(1)
	}()
}

// forgetHandshake takes out of the environment what the core put there for the
// handshake, so that what the plugin starts inherits none of it.
func forgetHandshake() {
	for _, name := range []string{wire.CookieKey, wire.LifelineEnv, wire.LogLevelEnv, goplugin.EnvUnixSocketDir,
		"PLUGIN_CLIENT_CERT", "PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_PROTOCOL_VERSIONS"} {
		os.Unsetenv(name)
	}
}

// logHandler writes what slog is given in hclog's form, which the core reads.
func logHandler(w io.Writer) slog.Handler {
	level := slog.LevelInfo
	if text := os.Getenv(wire.LogLevelEnv); text != "" {
		// An unknown level keeps the default; the core only sends known ones.
		_ = level.UnmarshalText([]byte(text))
	}
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: hclogKeys})
}

// hclogKeys renames slog's own keys to those of hclog.
func hclogKeys(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("@timestamp", a.Value.Time().Format("2006-01-02T15:04:05.000000Z07:00"))
	case slog.LevelKey:
		return slog.String("@level", strings.ToLower(a.Value.String()))
	case slog.MessageKey:
		a.Key = "@message"
	}
	return a
}

// running counts the calls under way.
type running struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed when n falls to 0; nil when nobody waits
}

func (r *running) enter() (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.n--; r.n == 0 && r.idle != nil {
			close(r.idle)
			r.idle = nil
		}
	}
}

// wait waits until no call is under way, for at most d.
func (r *running) wait(d time.Duration) {
	r.mu.Lock()
	if r.n == 0 {
		r.mu.Unlock()
		return
	}
	idle := make(chan struct{})
	r.idle = idle
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}
