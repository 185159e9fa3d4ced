package monitor

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/ownsocket"
)

// maxClients bounds who is answered at once; others wait.
const maxClients = 16

// Server answers for one transfer. Its methods may be called from several
// goroutines at once.
type Server struct {
	dir, id  string
	cancel   func()
	listener *net.UnixListener
	clients  sync.WaitGroup
	over     chan struct{} // closed by Close

	mu   sync.Mutex
	last Snapshot
	news chan struct{} // closed, and replaced, when last has changed
}

// Listen makes the socket of a transfer and answers on it until Close. The
// caller holds the lock of the transfer's journal, so a socket that is there
// already is a dead process's. cancel is called, each time that somebody asks
// for the transfer's end, from any goroutine.
func Listen(dir, id string, cancel func()) (*Server, error) {
	Remove(dir, id)
	s := &Server{dir: dir, id: id, cancel: cancel, over: make(chan struct{}), news: make(chan struct{})}
	s.last = Snapshot{Transfer: id, PID: os.Getpid(), Began: time.Now(), Total: -1}
	var err error
	if s.listener, err = ownsocket.Listen(dir, id+Suffix); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(dir, id+Suffix), err)
	}
	s.clients.Go(s.accept)
	return s, nil
}

// Update changes what is told from now on. change must not keep what it gets.
func (s *Server) Update(change func(*Snapshot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.last)
	close(s.news)
	s.news = make(chan struct{})
}

// Close tells followers the last Snapshot, removes the socket and returns when
// everybody who was being answered has gone.
func (s *Server) Close() {
	close(s.over)
	s.listener.Close()
	s.clients.Wait()
	Remove(s.dir, s.id)
}

func (s *Server) accept() {
	slots := make(chan struct{}, maxClients)
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			select {
			case <-s.over:
				return
			case <-time.After(100 * time.Millisecond): // out of descriptors, perhaps
				continue
			}
		}
		select {
		case slots <- struct{}{}:
		case <-s.over:
			conn.Close()
			return
		}
		s.clients.Go(func() {
			defer func() { <-slots }()
			defer conn.Close()
			s.converse(conn)
		})
	}
}

// converse answers one question. A client that asks nonsense, or is somebody
// else's, gets no answer.
func (s *Server) converse(conn *net.UnixConn) {
	if !ownsocket.SameUser(conn) || conn.SetReadDeadline(time.Now().Add(tellTime)) != nil {
		return
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxQuestion)).ReadBytes('\n')
	var q question
	if err != nil || json.Unmarshal(line, &q) != nil || q.V != version {
		return
	}
	switch q.Verb {
	case verbCancel:
		s.cancel()
		s.tell(conn, s.now())
	case verbStatus:
		s.tell(conn, s.now())
	case verbFollow:
		s.follow(conn)
	}
}

// follow tells every change until the client goes or the transfer has ended.
func (s *Server) follow(conn *net.UnixConn) {
	gone := make(chan struct{})
	s.clients.Go(func() { // ends when the connection is closed, by either side
		defer close(gone)
		conn.SetReadDeadline(time.Time{})
		var one [1]byte
		conn.Read(one[:])
	})
	defer conn.Close()
	for {
		s.mu.Lock()
		last, news := s.last, s.news
		s.mu.Unlock()
		if s.tell(conn, last) != nil || last.Done {
			return
		}
		select {
		case <-news:
		case <-gone:
			return
		case <-s.over:
			if last := s.now(); last.Done {
				s.tell(conn, last)
			}
			return
		}
	}
}

func (s *Server) now() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *Server) tell(conn *net.UnixConn, last Snapshot) error {
	line, err := json.Marshal(last.slim())
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(tellTime)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}
