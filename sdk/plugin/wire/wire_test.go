package wire

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/transferpy/transferpy/sdk"
)

// fakeMode is a mode whose calls do what a test says.
type fakeMode struct {
	sdk.Mode
	inspect func(ctx context.Context, t sdk.Transfer, host sdk.Host) (sdk.Findings, error)
	begin   func(ctx context.Context, host sdk.Host) error
	plan    func() (sdk.Plan, error)
}

func (m *fakeMode) Describe() sdk.Description {
	return sdk.Description{Kind: sdk.KindMode, Name: "fake"}
}

func (m *fakeMode) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) { return nil, nil }

func (m *fakeMode) Inspect(ctx context.Context, t sdk.Transfer, _ []sdk.Answers, host sdk.Host) (sdk.Findings, error) {
	return m.inspect(ctx, t, host)
}

func (m *fakeMode) Begin(ctx context.Context, _ sdk.Transfer, host sdk.Host) error {
	return m.begin(ctx, host)
}

func (m *fakeMode) Plan(context.Context, sdk.Transfer, sdk.Findings) (sdk.Plan, error) {
	return m.plan()
}

// fakeHost counts, and answers with its name.
type fakeHost struct {
	mu           sync.Mutex
	runs, change int
	block        bool
}

func (h *fakeHost) Run(ctx context.Context, work []sdk.HostCommands) ([]sdk.HostResults, error) {
	h.mu.Lock()
	h.runs++
	h.mu.Unlock()
	if h.block {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return []sdk.HostResults{{Host: work[0].Host}}, nil
}

func (h *fakeHost) Change(_ context.Context, work []sdk.HostChange) ([]sdk.HostResults, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.change++
	return nil, &sdk.Error{Kind: sdk.KindNoSpace, Host: work[0].Host, Message: "full", Hint: "free some"}
}

// pipeBroker is a broker within this process.
type pipeBroker struct{ listeners sync.Map }

func (b *pipeBroker) NextId() uint32 {
	b.listeners.Store(uint32(1), bufconn.Listen(1<<16))
	return 1
}

func (b *pipeBroker) AcceptAndServe(id uint32, newServer func([]grpc.ServerOption) *grpc.Server) {
	l, _ := b.listeners.Load(id)
	newServer(nil).Serve(l.(*bufconn.Listener))
}

func (b *pipeBroker) dial(id uint32, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	l, _ := b.listeners.Load(id)
	return dial(l.(*bufconn.Listener), opts...)
}

func dial(l *bufconn.Listener, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:x", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
}

// connect serves m and gives the core's end.
func connect(t *testing.T, m *fakeMode) sdk.Mode {
	broker := &pipeBroker{}
	server := grpc.NewServer(ServerOptions(nil)...)
	if err := Register(server, m, broker.dial); err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 16)
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	conn, err := dial(l, DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(conn, broker, Unsupervised{}, DefaultLimits)
	t.Cleanup(func() { c.Close(); conn.Close(); server.Stop(); serving.Wait(); c.Wait() })
	if _, err := c.Ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Configure(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	remote, err := c.Mode()
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

var someWork = []sdk.HostCommands{{Host: "db1", Commands: []sdk.Command{{Argv: []sdk.Raw{"true"}}}}}

func TestChangeIsRefusedInInspect(t *testing.T) {
	host := &fakeHost{}
	m := connect(t, &fakeMode{
		inspect: func(ctx context.Context, _ sdk.Transfer, h sdk.Host) (sdk.Findings, error) {
			if _, err := h.Run(ctx, someWork); err != nil {
				return sdk.Findings{}, err
			}
			_, err := h.Change(ctx, []sdk.HostChange{{Host: "db1"}})
			return sdk.Findings{}, err
		},
		begin: func(ctx context.Context, h sdk.Host) error {
			_, err := h.Change(ctx, []sdk.HostChange{{Host: "db1"}})
			return err
		},
	})
	_, err := m.Inspect(t.Context(), sdk.Transfer{}, nil, host)
	if !errors.Is(err, sdk.ErrPermission) || !strings.Contains(err.Error(), "Inspect") {
		t.Errorf("Inspect: %v", err)
	}
	if host.runs != 1 || host.change != 0 {
		t.Errorf("%d runs and %d changes reached the host", host.runs, host.change)
	}
	// In Begin it goes through, and so does the host's typed error, twice
	// over the wire.
	err = m.Begin(t.Context(), sdk.Transfer{}, host)
	want := sdk.Error{Kind: sdk.KindNoSpace, Host: "db1", Message: "full", Hint: "free some"}
	if !errors.Is(err, sdk.ErrNoSpace) || *sdk.AsError(err) != want || host.change != 1 {
		t.Errorf("Begin: %#v, %d changes", err, host.change)
	}
}

func TestHostEndsWithItsCall(t *testing.T) {
	var kept sdk.Host
	m := connect(t, &fakeMode{inspect: func(_ context.Context, _ sdk.Transfer, h sdk.Host) (sdk.Findings, error) {
		kept = h
		return sdk.Findings{}, nil
	}})
	if _, err := m.Inspect(t.Context(), sdk.Transfer{}, nil, &fakeHost{}); err != nil {
		t.Fatal(err)
	}
	if _, err := kept.Run(t.Context(), someWork); !errors.Is(err, sdk.ErrUnsupported) {
		t.Errorf("a Host that was kept: %v", err)
	}
}

// TestCancelReachesTheHost ends a call while the plugin, which heeds no
// context, waits for a host.
func TestCancelReachesTheHost(t *testing.T) {
	m := connect(t, &fakeMode{inspect: func(_ context.Context, _ sdk.Transfer, h sdk.Host) (sdk.Findings, error) {
		_, err := h.Run(context.Background(), someWork)
		return sdk.Findings{}, err
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := m.Inspect(ctx, sdk.Transfer{}, nil, &fakeHost{block: true}); !errors.Is(err, sdk.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAcross(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, test := range []struct {
		name string
		err  error
		want sdk.ErrorKind
		text string
	}{
		{"typed", &sdk.Error{Kind: sdk.KindExists, Message: "there"}, sdk.KindExists, "there"},
		{"wrapped", errors.Join(errors.New("outer"), &sdk.Error{Kind: sdk.KindAuth, Message: "who?"}), sdk.KindAuth, "who?"},
		{"plain", errors.New("plain"), sdk.KindInternal, "plain"},
		{"cancelled", context.Canceled, sdk.KindCancelled, "canceled"},
		{"deadline", context.DeadlineExceeded, sdk.KindTimeout, "deadline"},
		{"unknown kind", &sdk.Error{Kind: "novel", Message: "new"}, "novel", "new"},
		{"long", &sdk.Error{Kind: sdk.KindNotFound, Message: long, Hint: long, Stderr: long + "the end"}, sdk.KindNotFound, "xxx"},
		{"not UTF-8", &sdk.Error{Kind: sdk.KindNotFound, Host: "\xff", Message: "no \xfe"}, sdk.KindNotFound, "no \uFFFD"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := connect(t, &fakeMode{plan: func() (sdk.Plan, error) { return sdk.Plan{}, test.err }})
			_, err := m.Plan(t.Context(), sdk.Transfer{}, sdk.Findings{})
			var got *sdk.Error
			if !errors.As(err, &got) || got.Kind != test.want || !strings.Contains(got.Message, test.text) {
				t.Errorf("got %#v", err)
			}
			if !errors.Is(err, &sdk.Error{Kind: test.want}) {
				t.Errorf("errors.Is does not hold for %v", err)
			}
		})
	}
}

func TestPanicIsAnError(t *testing.T) {
	m := connect(t, &fakeMode{plan: func() (sdk.Plan, error) { panic("no plan") }})
	for range 2 {
		_, err := m.Plan(t.Context(), sdk.Transfer{}, sdk.Findings{})
		if !errors.Is(err, sdk.ErrCrashed) || !strings.Contains(sdk.AsError(err).Stderr, "wire_test.go") {
			t.Errorf("got %v\n%s", err, sdk.AsError(err).Stderr)
		}
	}
}

func TestNamesThatAreNotUTF8(t *testing.T) {
	m := connect(t, &fakeMode{inspect: func(context.Context, sdk.Transfer, sdk.Host) (sdk.Findings, error) {
		return sdk.Findings{}, nil
	}})
	_, err := m.Inspect(t.Context(), sdk.Transfer{Source: sdk.Endpoint{Host: "\xff"}}, nil, nil)
	if !errors.Is(err, sdk.ErrConfig) {
		t.Errorf("a host name that is not UTF-8: %v", err)
	}
}

func TestRegisterRefuses(t *testing.T) {
	for name, p := range map[string]sdk.Plugin{
		"no interface": justPlugin{kind: sdk.KindExecutor},
		"no kind":      justPlugin{},
	} {
		if err := Register(grpc.NewServer(), p, nil); err == nil {
			t.Errorf("%s: it is served", name)
		}
	}
}

// justPlugin has none of the three interfaces.
type justPlugin struct{ kind sdk.Kind }

func (p justPlugin) Describe() sdk.Description { return sdk.Description{Kind: p.kind, Name: "x"} }
func (p justPlugin) Configure(context.Context, sdk.Values) ([]sdk.Diagnostic, error) {
	return nil, nil
}
