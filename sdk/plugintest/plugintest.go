// Package plugintest is the conformance suites for plugins: an author's test
// is one line,
//
//	func TestConformance(t *testing.T) {
//		plugintest.Executor(t, myexecutor.New(), plugintest.ExecutorCase{Good: []string{"web1"}})
//	}
//
// Each suite speaks with the plugin over real gRPC, in the test's own process,
// and makes every call twice, since the core may have to repeat any of them.
// Given what Binary returns, it speaks with the plugin's built program instead.
// The suites run commands on the hosts that they are given; those need sh
// and what POSIX has: cat, cut, head, kill, ls, printf, rm, sleep, test, tr.
package plugintest

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
	"github.com/transferpy/transferpy/sdk/plugin/launch"
	"github.com/transferpy/transferpy/sdk/plugin/wire"
)

// Build builds the Go program in dir (a directory, "." for the test's own) as
// a plugin of this kind and name and returns its path. It is removed with the
// test.
func Build(t *testing.T, dir string, kind sdk.Kind, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "transferpy-"+string(kind)+"-"+name)
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build in %s: %v\n%s", dir, err, out)
	}
	return path
}

// Binary starts the program at path as the core would and returns the plugin
// that it serves, which is an sdk.Executor, sdk.Mode or sdk.Firewall as its
// kind says. It is stopped with the test. args come after the program's name.
func Binary(t *testing.T, path string, args ...string) sdk.Plugin {
	t.Helper()
	p, err := launch.Start(t.Context(), launch.Program{Title: filepath.Base(path), Path: path, Args: args}, launch.Options{})
	if err != nil {
		t.Fatal(full(err))
	}
	t.Cleanup(p.Stop)
	if _, err := p.Ask(t.Context()); err != nil {
		t.Fatal(full(err))
	}
	return remote(t, p.Client)
}

// InProcess serves p over gRPC within the test's process and returns the
// core's end of the wire. It ends with the test.
func InProcess(t *testing.T, p sdk.Plugin) sdk.Plugin {
	t.Helper()
	if r, ok := p.(interface{ IsRemote() bool }); ok && r.IsRemote() {
		return p
	}
	broker := &localBroker{listeners: map[uint32]*bufconn.Listener{}}
	server := grpc.NewServer(wire.ServerOptions(nil)...)
	if err := wire.Register(server, p, broker.dial); err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	conn, err := dialLocal(listener, wire.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	client := wire.NewClient(conn, broker, wire.Unsupervised{}, wire.DefaultLimits)
	t.Cleanup(func() {
		client.Close()
		broker.close()
		conn.Close()
		server.Stop()
		serving.Wait()
		client.Wait()
	})
	if _, err := client.Ask(t.Context()); err != nil {
		t.Fatal(full(err))
	}
	return remote(t, client)
}

// remote gives the interface of the plugin's kind.
func remote(t *testing.T, c *wire.Client) sdk.Plugin {
	t.Helper()
	var p sdk.Plugin
	var err error
	switch kind := c.Describe().Kind; kind {
	case sdk.KindExecutor:
		p, err = c.Executor()
	case sdk.KindMode:
		p, err = c.Mode()
	case sdk.KindFirewall:
		p, err = c.Firewall()
	default:
		t.Fatalf("Describe says kind %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func dialLocal(l *bufconn.Listener, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:local", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
}

// localBroker is go-plugin's broker within one process.
type localBroker struct {
	mu        sync.Mutex
	next      uint32
	listeners map[uint32]*bufconn.Listener
	closed    bool
}

// NextId implements wire.Broker. The id can be dialled at once.
func (b *localBroker) NextId() uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	b.listeners[b.next] = bufconn.Listen(1 << 20)
	return b.next
}

// AcceptAndServe implements wire.Broker.
func (b *localBroker) AcceptAndServe(id uint32, newServer func([]grpc.ServerOption) *grpc.Server) {
	b.mu.Lock()
	l := b.listeners[id]
	b.mu.Unlock()
	newServer(nil).Serve(l)
}

func (b *localBroker) dial(id uint32, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.listeners[id]
	if l == nil || b.closed {
		return nil, errors.New("nothing is served under this id")
	}
	return dialLocal(l, opts...)
}

func (b *localBroker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, l := range b.listeners {
		l.Close()
	}
}

// prepare connects to p, checks its description and configures it.
func prepare(t *testing.T, p sdk.Plugin, kind sdk.Kind, config map[string][]string) sdk.Plugin {
	t.Helper()
	p = InProcess(t, p)
	d := p.Describe()
	if d.Kind != kind {
		t.Fatalf("Describe: kind %q, want %q", d.Kind, kind)
	}
	if err := fields.Validate(d); err != nil {
		t.Fatal(err)
	}
	if d.Version == "" || d.Summary == "" {
		t.Error("Describe: version and summary must not be empty: `transferpy plugin list` shows them")
	}
	if again := p.Describe(); !reflect.DeepEqual(d, again) {
		t.Errorf("Describe answers differently the second time:\n%+v\n%+v", d, again)
	}
	checked, mistakes := fields.Check(d, config)
	if len(mistakes) > 0 {
		t.Fatalf("the case's Config: %v", mistakes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wire.DefaultLimits.Configure)
	defer cancel()
	diagnostics, err := p.Configure(ctx, checked.Values)
	if err != nil {
		t.Fatal("Configure: " + full(err))
	}
	for _, diag := range diagnostics {
		if diag.Severity == sdk.SeverityError {
			t.Fatalf("Configure: %s: %s", diag.Field, diag.Message)
		}
		known := slices.ContainsFunc(d.Fields, func(f sdk.Field) bool { return f.Name == diag.Field })
		if diag.Field != "" && !known || diag.Severity != sdk.SeverityWarning {
			t.Errorf("Configure: a diagnostic names an unknown field or severity: %+v", diag)
		}
	}
	return p
}

// full is an error with its stderr.
func full(err error) string {
	if e := sdk.AsError(err); e.Stderr != "" {
		return err.Error() + "\n" + e.Stderr
	}
	return err.Error()
}

// within bounds a call of the suite.
func within(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
