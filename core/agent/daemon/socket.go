package daemon

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
)

// On an agent's socket, one connection carries one request and one reply,
// each behind its length (4 bytes, big endian). While it waits for the reply
// the caller keeps its side open; closing that says "answer now".

// transferTime is how long one message may take over the socket.
const transferTime = 30 * time.Second

// shortPath names a file in a directory that is open, since the address of a
// socket must fit into 108 bytes and state directories may lie deep.
func shortPath(dir *os.File, name string) string {
	return filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), name)
}

// listenSocket makes the agent's socket in path.
func listenSocket(path string) (*net.UnixListener, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: shortPath(dir, socketName), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", filepath.Join(path, socketName), err)
	}
	ln.SetUnlinkOnClose(false) // it goes with its directory
	return ln, nil
}

// dialSocket connects to the agent in path.
func dialSocket(ctx context.Context, path string) (*net.UnixConn, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	dialer := net.Dialer{Timeout: transferTime}
	conn, err := dialer.DialContext(ctx, "unix", shortPath(dir, socketName))
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// samePeer reports whether the process at the other end runs with our uid.
func samePeer(conn *net.UnixConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return false
	}
	return int(cred.Uid) == os.Getuid()
}

// send writes one message.
func send(conn net.Conn, data []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(transferTime)); err != nil {
		return err
	}
	_, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	return err
}

// receive reads one message, which must begin within the given time.
func receive(conn net.Conn, within time.Duration) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > control.MaxMessage {
		return nil, fmt.Errorf("a message of %d bytes", size)
	}
	if err := conn.SetReadDeadline(time.Now().Add(transferTime)); err != nil {
		return nil, err
	}
	// The buffer grows with what comes, not with what was announced.
	var data bytes.Buffer
	if _, err := io.CopyN(&data, conn, int64(size)); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}
