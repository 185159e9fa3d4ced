package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/transferpy/transferpy/core/agent/ownsocket"
)

// Status asks the process that runs a transfer how far it is. The error is of
// sdk.KindNotFound where there is no such process.
func Status(ctx context.Context, dir, id string) (Snapshot, error) {
	var got Snapshot
	err := ask(ctx, dir, id, verbStatus, func(s Snapshot) { got = s })
	return got, err
}

// Follow calls tell with how far a transfer is, at once and with every change,
// until it has ended: then the last one is Done. An end of the process without
// such a word is an error, as is the end of ctx.
func Follow(ctx context.Context, dir, id string, tell func(Snapshot)) error {
	done := false
	err := ask(ctx, dir, id, verbFollow, func(s Snapshot) { done = s.Done; tell(s) })
	if err == nil && !done {
		err = unreachable(id, errors.New("it has died"))
	}
	return err
}

// Cancel asks the process that runs a transfer to end it, as SIGINT does, and
// returns when it has heard that.
func Cancel(ctx context.Context, dir, id string) error {
	return ask(ctx, dir, id, verbCancel, func(Snapshot) {})
}

// ask asks one question and takes its answers, at least one.
func ask(ctx context.Context, dir, id, verb string, take func(Snapshot)) error {
	conn, err := ownsocket.Dial(ctx, dir, id+Suffix, askTime)
	if err != nil {
		return unreachable(id, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if !ownsocket.SameUser(conn) {
		return unreachable(id, errors.New("its socket belongs to another user"))
	}
	line, err := json.Marshal(question{V: version, Verb: verb})
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(askTime))
	}
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err == nil {
		err = answers(conn, verb == verbFollow, take)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return unreachable(id, err)
	}
	return nil
}

// answers reads snapshots to the end of the connection. Who follows waits
// without bound: the other side's kernel tells of its death.
func answers(conn *net.UnixConn, follow bool, take func(Snapshot)) error {
	in := bufio.NewScanner(conn)
	in.Buffer(nil, maxSnapshot)
	n := 0
	for ; in.Scan(); n++ {
		s, err := decodeSnapshot(in.Bytes())
		if err != nil {
			return err
		}
		if follow {
			if err := conn.SetReadDeadline(time.Time{}); err != nil {
				return err
			}
		}
		take(s)
	}
	switch err := in.Err(); {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case err != nil:
		return err
	case n == 0:
		return io.ErrUnexpectedEOF
	}
	return nil
}

// decodeSnapshot reads one answer; what a later release adds is passed over.
func decodeSnapshot(line []byte) (Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(line, &s); err != nil {
		return s, fmt.Errorf("it says what is no answer: %w", err)
	}
	if s.V != version {
		return s, fmt.Errorf("it speaks version %d, this program version %d", s.V, version)
	}
	return s, nil
}
