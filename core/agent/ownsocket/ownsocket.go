// Package ownsocket makes and finds Unix sockets that processes of one user
// talk through, in directories however deep.
package ownsocket

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Listen makes a socket with that name in the directory dir, which the caller
// keeps closed to other users. Closing the listener leaves its name there.
func Listen(dir, name string) (ln *net.UnixListener, err error) {
	err = inside(dir, name, func(path string) error {
		if ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
			ln.SetUnlinkOnClose(false) // by a path that leads elsewhere by then
		}
		return err
	})
	return ln, err
}

// Dial connects to the socket with that name in the directory dir, within the
// given time. The caller closes the connection.
func Dial(ctx context.Context, dir, name string, within time.Duration) (conn *net.UnixConn, err error) {
	err = inside(dir, name, func(path string) error {
		dialer := net.Dialer{Timeout: within}
		c, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			conn = c.(*net.UnixConn)
		}
		return err
	})
	return conn, err
}

// inside gives do a path of name in dir that lasts as long as do runs, and is
// short: the address of a socket must fit into 108 bytes (unix(7)).
func inside(dir, name string, do func(path string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return do(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), name))
}

// SameUser reports whether the process at the other end had our user id when
// it connected or listened (SO_PEERCRED, unix(7)).
func SameUser(conn *net.UnixConn) bool {
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
