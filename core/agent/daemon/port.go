package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// listenData binds the port asked for, or the first free one of the usual
// range, on all addresses of both families. Binding is the reservation.
func listenData(ctx context.Context, port int) (net.Listener, int, error) {
	first, last := port, port
	if port == 0 {
		first, last = control.PortLow, control.PortHigh
	}
	for p := first; p <= last; p++ {
		var config net.ListenConfig
		ln, err := config.Listen(ctx, "tcp", ":"+strconv.Itoa(p))
		switch {
		case err == nil:
			return ln, p, nil
		case !errors.Is(err, unix.EADDRINUSE):
			return nil, 0, &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("listen on port %d: %v", p, err), Hint: "choose another with --port, or leave it out: then the first free one of 4400-4499"}
		case port != 0:
			return nil, 0, &sdk.Error{Kind: sdk.KindExists, Message: fmt.Sprintf("port %d is taken by %s", p, holder(p)), Hint: "choose another with --port, or leave it out: then the first free one of 4400-4499"}
		}
	}
	return nil, 0, &sdk.Error{Kind: sdk.KindExists,
		Message: fmt.Sprintf("all ports from %d to %d are taken", control.PortLow, control.PortHigh),
		Hint:    "choose one with --port"}
}

// listenAlone binds any port of the loopback address, where no other host reaches
// it.
func listenAlone(ctx context.Context, _ int) (net.Listener, int, error) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, 0, fmt.Errorf("listen on the loopback address: %w", err)
	}
	return ln, ln.Addr().(*net.TCPAddr).Port, nil
}

// holder names the process that listens on a port, as far as we may see it.
func holder(port int) string {
	inodes := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listeners(table, port, inodes)
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		link, err := os.Readlink(fd)
		if err != nil || !inodes[link] {
			continue
		}
		pid := strings.Split(fd, "/")[2]
		command, _ := os.ReadFile("/proc/" + pid + "/comm")
		return fmt.Sprintf("pid %s (%s)", pid, sdk.Raw(strings.TrimSpace(string(command))).Display())
	}
	return "another process"
}

// listeners adds the sockets that listen on a port, as /proc/PID/fd shows
// them. A line is: "sl local:PORT remote:PORT STATE ... INODE ...".
func listeners(table string, port int, inodes map[string]bool) {
	file, err := os.Open(table)
	if err != nil {
		return
	}
	defer file.Close()
	const listening = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && strings.HasSuffix(fields[1], suffix) && fields[3] == listening {
			inodes["socket:["+fields[9]+"]"] = true
		}
	}
}
