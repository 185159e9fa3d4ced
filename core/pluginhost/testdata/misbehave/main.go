// Command misbehave is a plugin for the tests of pluginhost. It does the
// harm that is baked into it by -ldflags "-X main.harm=...", and else works:
// as an executor of the name that is baked in as well.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

var (
	harm = "none"
	name = "bad"
	kind = "executor"
)

func main() {
	switch harm {
	case "crash-on-start":
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprintln(os.Stderr, "cannot find my teapot")
		os.Exit(3)
	case "print-first":
		fmt.Println("Hello, I am a plugin!")
	case "hang-on-start":
		time.Sleep(time.Hour)
	case "silent-exit":
		return
	case "wrong-major":
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig:  wire.Handshake,
			VersionedPlugins: map[int]goplugin.PluginSet{99: wire.Served(&bad{})[sdk.ProtocolMajor]},
			GRPCServer:       func(o []grpc.ServerOption) *grpc.Server { return grpc.NewServer(o...) },
		})
		return
	}
	plugin.Serve(&bad{})
}

// bad is an executor whose Run does as its first argument says.
type bad struct {
	values sdk.Values
}

func (b *bad) Describe() sdk.Description {
	if harm == "hang-in-describe" && described.Add(1) > servesOwn {
		time.Sleep(time.Hour)
	}
	return sdk.Description{Kind: sdk.Kind(kind), Name: name, Version: "0.1",
		Environment: []string{"MISBEHAVE_WANTED"},
		Fields: []sdk.Field{
			{Name: "timeout", Type: sdk.TypeDuration, Default: "90s", Help: "how long"},
			{Name: "token", Type: sdk.TypeString, Secret: true},
			{Name: "identity_file", Type: sdk.TypeList},
		},
		Executor: sdk.ExecutorTraits{MaxWait: time.Second, MaxCalls: 8}}
}

// servesOwn is how often plugin.Serve looks at the description before the
// core asks.
const servesOwn = 3

var described atomic.Int32

func (b *bad) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	b.values = v
	switch harm {
	case "hang-in-configure":
		time.Sleep(time.Hour)
	case "diagnose":
		return []sdk.Diagnostic{
			{Field: "timeout", Severity: sdk.SeverityWarning, Message: "rather long"},
			{Field: "token", Severity: sdk.SeverityError, Message: "the server refused " + v.String("token")},
		}, nil
	}
	return nil, nil
}

func (b *bad) Run(ctx context.Context, hosts []string, cmd sdk.Command, emit func(sdk.Result)) error {
	switch verb := cmd.Argv[0]; verb {
	case "exit":
		fmt.Fprintln(os.Stderr, "the secret is "+b.values.String("token"))
		fmt.Fprintln(os.Stderr, "giving up")
		os.Exit(3)
	case "segv":
		syscall.Kill(os.Getpid(), syscall.SIGSEGV)
		time.Sleep(time.Minute)
	case "panic":
		panic("no teapot")
	case "panic-elsewhere":
		go panic("out of reach")
		time.Sleep(time.Minute)
	case "hang":
		time.Sleep(time.Hour)
	case "wait":
		<-ctx.Done()
		return ctx.Err()
	case "print":
		fmt.Println("to standard output")
		fmt.Fprintln(os.Stderr, "to standard error")
		slog.Warn("to the log", "token", b.values.String("token"))
	case "child":
		// A child that leaves our group and holds our stderr open.
		c := exec.Command("sleep", "3600")
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		emit(sdk.Result{Host: hosts[0], Stdout: fmt.Append(nil, c.Process.Pid)})
		return nil
	case "huge":
		emit(sdk.Result{Host: hosts[0], Stdout: make([]byte, wire.MaxMessage+1)})
		return nil
	case "typed":
		return &sdk.Error{Kind: sdk.KindNoSpace, Host: hosts[0], Message: "the disk is full", Hint: "buy another"}
	case "strangers":
		emit(sdk.Result{Host: "stranger"})
		emit(sdk.Result{Host: hosts[0]})
		emit(sdk.Result{Host: hosts[0], ExitCode: 9})
		return nil
	case "env":
		for _, h := range hosts {
			emit(sdk.Result{Host: h, Stdout: []byte(strings.Join(os.Environ(), "\n"))})
		}
		return nil
	case "pid":
		emit(sdk.Result{Host: hosts[0], Stdout: fmt.Append(nil, os.Getpid())})
		return nil
	}
	for _, h := range hosts {
		emit(sdk.Result{Host: h, Stdout: []byte(b.values.String("timeout"))})
	}
	return nil
}
