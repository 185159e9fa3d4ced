package link

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Held returns for how long, since it was made, the connection has had bytes
// under way or waiting that the network and not the peer held up: a peer that
// does not read does not count. It is 0 where the kernel does not tell.
func (c *Conn) Held() time.Duration {
	lowest := c.Conn
	if c.below != nil {
		lowest = c.below.Conn
	}
	tcp, ok := lowest.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0
	}
	var held time.Duration
	_ = raw.Control(func(fd uintptr) { // a closed connection holds nothing
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Busy_time > info.Rwnd_limited {
			held = time.Duration(info.Busy_time-info.Rwnd_limited) * time.Microsecond
		}
	})
	return held
}
