package daemon

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/ownsocket"
	"github.com/transferpy/transferpy/sdk"
)

// Bounds of what a server takes on at once.
const (
	maxConnections = 64
	maxRequestTime = 10 * time.Second // from connecting to the whole request
)

// job is what the server drives: agent.Job.
type job interface {
	Start(*control.Start) error
	Begin()
	Commit(ctx context.Context, members []string) error
	Members() []control.MemberStatus
	Closed() []control.ClosedPort
	Flowing() bool
	Stop(ctx context.Context) error
}

// server is one living agent. Its run owns every goroutine below it.
type server struct {
	config *serveConfig
	dir    agentDir
	files  *agentFiles
	ready  *control.Ready
	job    job

	work     sync.WaitGroup  // actions of requests: they outlive their connections
	acting   context.Context // ends when the agent ends: kills what the actions run
	stopActs context.CancelFunc
	handlers sync.WaitGroup // connections
	packed   packed
	endings  chan ending   // asks run to end the agent
	freed    chan struct{} // tells run that the source is done
	ended    chan struct{} // closed when the agent has ended

	mu         sync.Mutex
	generation uint64
	calls      calls
	change     uint64
	wanted     uint64        // the change by which something wanted the controller
	news       chan struct{} // closed, and replaced, when something changed
	closing    bool          // no new actions
	source     string        // the source's name in the plan
	final      []control.MemberStatus
	asked      time.Time // when the controller was last heard
	waiting    int       // requests that are being answered
}

// ending is how an agent is to end.
type ending struct {
	why  string
	keep bool // leave what a resumed transfer can use
	done bool // all is published: leave word of it
}

func newServer(config *serveConfig, files *agentFiles, ready *control.Ready) *server {
	s := &server{
		config: config, dir: config.dir(), files: files, ready: ready,
		endings:    make(chan ending, 1),
		freed:      make(chan struct{}, 1),
		ended:      make(chan struct{}),
		generation: config.Generation,
		change:     1,
		news:       make(chan struct{}),
		asked:      time.Now(),
	}
	s.acting, s.stopActs = context.WithCancel(context.Background())
	return s
}

// run serves until the agent has ended: asked to, by its lease, or by ctx.
func (s *server) run(ctx context.Context) {
	s.files.log.Info("ready", "transfer", s.config.Transfer, "agent", s.config.Agent, "port", s.ready.Port)
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		s.accept()
	}()
	end := s.await(ctx)
	s.files.log.Info("ending", "why", end.why)
	s.end(end)
	close(s.ended)
	s.files.socket.Close()
	<-accepting
	s.handlers.Wait() // each has deadlines
}

// await returns when the agent is to end. Meanwhile it runs the undos that
// are due when the source is done.
func (s *server) await(ctx context.Context) ending {
	lease := time.NewTicker(leaseTick(s.config.Prepare))
	defer lease.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	delays := undoDelays
	for {
		select {
		case end := <-s.endings:
			return end
		case <-ctx.Done():
			return ending{why: "the process was told to end", keep: s.config.Prepare.Keep}
		case now := <-lease.C:
			if why := s.expired(now); why != "" {
				return ending{why: why, keep: s.config.Prepare.Keep}
			}
		case <-s.freed:
			delays = undoDelays
			retry.Reset(0)
		case <-retry.C:
			if !s.undoSourceDone() && len(delays) > 0 {
				retry.Reset(delays[0])
				delays = delays[1:]
			}
		}
	}
}

// close gives back what belongs to the process.
func (s *server) close() { s.files.close() }

// changed is called when something happened that the controller wants to
// know at once.
func (s *server) changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change++
	close(s.news)
	s.news = make(chan struct{})
}

// wants is called when something wants the controller.
func (s *server) wants() {
	s.mu.Lock()
	s.wanted = s.change + 1
	s.mu.Unlock()
	s.changed()
}

// sourceDone is called when nothing will be read from the source any more.
func (s *server) sourceDone() {
	select {
	case s.freed <- struct{}{}:
	default:
	}
}

// askToEnd makes run end the agent; the first to ask says how.
func (s *server) askToEnd(e ending) {
	select {
	case s.endings <- e:
	default:
	}
}

// accept takes connections until the socket is closed.
func (s *server) accept() {
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := s.files.socket.AcceptUnix()
		if err != nil {
			select {
			case <-s.ended:
				return
			case <-time.After(100 * time.Millisecond): // out of descriptors, perhaps
				continue
			}
		}
		slots <- struct{}{}
		s.handlers.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			if err := s.converse(conn); err != nil {
				s.files.log.Warn("a request was not answered", "error", err)
			}
		})
	}
}

// converse reads one request and answers it.
func (s *server) converse(conn *net.UnixConn) error {
	if !ownsocket.SameUser(conn) {
		return fmt.Errorf("the caller is not uid %d", os.Getuid())
	}
	data, err := receive(conn, maxRequestTime)
	if err != nil {
		return err
	}
	reply := &control.Reply{}
	q, err := control.DecodeRequest(bytes.NewReader(data))
	if err == nil && q.Transfer != s.config.Transfer {
		err = &sdk.Error{Kind: sdk.KindConfig, Message: "the request is for another transfer"}
	}
	if err != nil {
		reply.Error = sdk.AsError(err)
	} else {
		reply.Agents = []control.Answer{*s.listen(conn, q)}
	}
	if data, err = control.EncodeReply(reply); err != nil {
		if data, err = control.EncodeReply(&control.Reply{Error: sdk.AsError(err)}); err != nil {
			return err
		}
	}
	return send(conn, data)
}

// listen handles a request while it listens on the connection: when its
// other side is closed, nobody wants to wait any longer.
func (s *server) listen(conn *net.UnixConn, q *control.Request) *control.Answer {
	patience, hurry := context.WithTimeout(context.Background(), q.Wait)
	defer hurry()
	// The end of the wait is the end of the listening, too.
	if err := conn.SetReadDeadline(time.Now().Add(q.Wait)); err != nil {
		hurry()
	}
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		var one [1]byte
		conn.Read(one[:]) // returns at the other's close, at the deadline, or by ours
		hurry()
	}()
	answer := s.handle(patience, q)
	conn.SetReadDeadline(time.Unix(1, 0))
	<-listening
	return answer
}
