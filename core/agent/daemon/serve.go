package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/facts"
	"github.com/transferpy/transferpy/core/agent/link"
	"github.com/transferpy/transferpy/core/agent/ownsocket"
	"github.com/transferpy/transferpy/core/agent/undo"
	"github.com/transferpy/transferpy/sdk"
)

// serveMain is the long-lived process: it sets itself up, tells prepare that
// it is ready, and serves until the agent has ended.
func serveMain(stdin io.Reader, stderr io.Writer) int {
	unix.CloseOnExec(readyFD)
	tell := os.NewFile(readyFD, "ready")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// Caught and dropped, not ignored: what is ignored stays so in commands.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	unix.Umask(0o022)

	s, err := setUp(ctx, stdin)
	answer := served{Error: sdk.AsError(err)}
	if err == nil {
		answer.Ready = s.ready
	}
	if data, err := json.Marshal(answer); err == nil {
		tell.Write(data)
	}
	tell.Close()
	if err != nil {
		fmt.Fprintf(stderr, "transferpy-agent: %v\n", err)
		return 1
	}
	defer s.close()
	profiler := startProfiler(s.config, s.files.log)
	defer profiler.stop()
	s.run(ctx)
	return 0
}

// setUp makes the agent and, last, gives its directory its name. On failure
// nothing of it is left.
func setUp(ctx context.Context, stdin io.Reader) (s *server, err error) {
	var config serveConfig
	data, err := io.ReadAll(io.LimitReader(stdin, control.MaxMessage))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return nil, err
	}
	lowered := niceSession(config.Prepare.Nice)
	dir := config.dir()
	defer func() {
		if err != nil {
			dir.discard()
		}
	}()
	files, err := furnish(dir.arriving().path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			files.close()
		}
	}()
	listener, ready, err := offer(ctx, &config.Prepare)
	if err != nil {
		return nil, err
	}
	if lowered != nil {
		files.log.Warn("the CPU priority holds within this session only", "error", lowered)
	}
	ready.Ready.Kept = len(config.Kept) > 0
	s = newServer(&config, files, ready.Ready)
	s.job = agent.New(agent.Config{
		Transfer: config.Transfer, Agent: config.Agent, StateDir: dir.path, LogDir: filepath.Join(config.StateDir, logsDir),
		Identity: ready.identity, Listener: listener, Undo: files.undo, Log: files.log,
		Changed: s.changed, Wanted: s.wants, SourceDone: s.sourceDone,
		Keep: config.Prepare.Keep, Checkpoint: config.Prepare.Checkpoint,
		Resume: config.Prepare.Resume != "", Kept: config.Kept,
	})
	i := info{V: control.Version, Call: config.Call, PID: os.Getpid(), Machine: facts.MachineID(), Ready: s.ready}
	if err := dir.arriving().writeInfo(&i); err != nil {
		return nil, err
	}
	return s, os.Rename(dir.arriving().path, dir.path)
}

// offered is what others need to reach and know this agent.
type offered struct {
	*control.Ready
	identity *link.Identity
}

// offer makes the key and binds the port.
func offer(ctx context.Context, p *control.Prepare) (net.Listener, *offered, error) {
	identity, err := link.NewIdentity()
	if err != nil {
		return nil, nil, err
	}
	host, err := facts.Host("/")
	if err != nil {
		return nil, nil, err
	}
	listen := listenData
	if p.Alone {
		listen = listenAlone
	}
	listener, port, err := listen(ctx, p.Port)
	if err != nil {
		return nil, nil, err
	}
	return listener, &offered{identity: identity, Ready: &control.Ready{
		Fingerprint: identity.Fingerprint(),
		SigningKey:  identity.SigningKey(),
		Port:        port,
		Addresses:   host.Addresses,
		BootID:      host.BootID,
		NetNS:       host.NetNS,
	}}, nil
}

// agentFiles are what the agent keeps open in its directory.
type agentFiles struct {
	lock   *os.File
	undo   *undo.Log
	log    *slog.Logger
	sink   *boundedLog
	socket *net.UnixListener
}

// furnish makes the directory and all that is to be in it, the lock first.
func furnish(path string) (_ *agentFiles, err error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, err
	}
	files := &agentFiles{}
	defer func() {
		if err != nil {
			files.close()
		}
	}()
	if files.lock, err = os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	if err = unix.Flock(int(files.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, err
	}
	if files.undo, err = undo.Open(path); err != nil {
		return nil, err
	}
	if files.sink, err = openLog(filepath.Join(path, logName)); err != nil {
		return nil, err
	}
	files.log = slog.New(slog.NewTextHandler(files.sink, nil))
	if err = keepLastWords(filepath.Join(path, crashName)); err != nil {
		return nil, err
	}
	if files.socket, err = ownsocket.Listen(path, socketName); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(path, socketName), err)
	}
	return files, nil
}

// keepLastWords has the runtime write there when it crashes.
func keepLastWords(path string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close() // the runtime keeps a descriptor of its own
	return debug.SetCrashOutput(file, debug.CrashOptions{})
}

// close gives the lock back last: what it guards is closed by then.
func (f *agentFiles) close() {
	if f.socket != nil {
		f.socket.Close()
	}
	if f.undo != nil {
		f.undo.Close()
	}
	if f.sink != nil {
		f.sink.Close()
	}
	if f.lock != nil {
		f.lock.Close()
	}
}
