package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// cable builds the switch and joins every host to it.
func (l *Lab) cable(ctx context.Context) error {
	var b strings.Builder
	b.WriteString("link add br0 type bridge\nlink set br0 up\n")
	for _, h := range l.Hosts {
		fmt.Fprintf(&b, "link add %s type veth peer name eth0 netns %d\n", h.Link, h.PID)
		fmt.Fprintf(&b, "link set %s master br0 up\n", h.Link)
	}
	if err := ipBatch(ctx, &l.Hub, b.String()); err != nil {
		return err
	}
	// Where the machine has Docker's br_netfilter, a switch would pass every
	// frame through a packet filter; a real one does not.
	const callFilters = "cd /proc/sys/net/bridge 2>/dev/null || exit 0; for f in bridge-nf-call-*; do echo 0 >$f; done"
	if out, err := inNetwork(ctx, &l.Hub, "sh", "-c", callFilters).CombinedOutput(); err != nil {
		return fmt.Errorf("keep the switch out of the packet filter: %w: %s", err, out)
	}
	for i := range l.Hosts {
		h := &l.Hosts[i]
		text := fmt.Sprintf("link set eth0 up\naddr add %s/24 dev eth0\n", h.IPv4)
		if h.IPv6 != "" {
			// Without waiting for others to object: nobody else is there.
			text += fmt.Sprintf("addr add %s/64 dev eth0 nodad\n", h.IPv6)
		}
		if err := ipBatch(ctx, h, text); err != nil {
			return err
		}
	}
	return nil
}

// AddDataNetwork gives every host but the control host a second interface,
// eth1, on a switch of its own: 10.98.0.N and fd00:98::N, with the N of its
// other addresses. No name resolves to these.
func (l *Lab) AddDataNetwork(ctx context.Context) error {
	if err := ipBatch(ctx, &l.Hub, "link add br1 type bridge\nlink set br1 up\n"); err != nil {
		return err
	}
	for i := range l.Hosts {
		h := &l.Hosts[i]
		if h.Name == Control {
			continue
		}
		link := "d-" + h.Name
		if err := ipBatch(ctx, &l.Hub, fmt.Sprintf("link add %s type veth peer name eth1 netns %d\nlink set %s master br1 up\n", link, h.PID, link)); err != nil {
			return err
		}
		text := fmt.Sprintf("link set eth1 up\naddr add %s/24 dev eth1\n", strings.Replace(h.IPv4, ".99.", ".98.", 1))
		if h.IPv6 != "" {
			text += fmt.Sprintf("addr add %s/64 dev eth1 nodad\n", strings.Replace(h.IPv6, ":99::", ":98::", 1))
		}
		if err := ipBatch(ctx, h, text); err != nil {
			return err
		}
	}
	return nil
}

func ipBatch(ctx context.Context, h *Host, text string) error {
	cmd := inNetwork(ctx, h, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip on %s: %w: %s (asked for: %s)", h.Name, err, out, text)
	}
	return nil
}

// inNetwork is a command of the machine in the network of a host.
func inNetwork(ctx context.Context, h *Host, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target", strconv.Itoa(h.PID), "--net", "--"}, argv...)...)
}

// Cut takes a host off the network: packets to and from it are lost without
// an answer. Its addresses and processes stay.
func (l *Lab) Cut(host string) error { return l.link(host, "down") }

// Mend undoes Cut.
func (l *Lab) Mend(host string) error { return l.link(host, "up") }

func (l *Lab) link(host, state string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	return ipBatch(context.Background(), &l.Hub, fmt.Sprintf("link set %s %s\n", h.Link, state))
}

// Cap limits what a host sends and receives, each to rate, as tc(8) writes it
// ("200mbit"); an empty rate removes the limit. The burst has room for what TCP
// hands on in one piece (64 KiB): the kernel would cut that into packets, which
// a real card does by itself, at several times the CPU of all else.
func (l *Lab) Cap(host, rate string) error {
	h, err := l.Host(host)
	if err != nil {
		return err
	}
	for _, end := range []struct {
		at   *Host
		link string
	}{{&l.Hub, h.Link}, {h, "eth0"}} {
		argv := []string{"tc", "qdisc", "replace", "dev", end.link, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"}
		if rate == "" {
			argv = []string{"tc", "qdisc", "replace", "dev", end.link, "root", "pfifo"}
		}
		if out, err := inNetwork(context.Background(), end.at, argv...).CombinedOutput(); err != nil {
			return fmt.Errorf("limit %s to %q: %w: %s", host, rate, err, out)
		}
	}
	return nil
}
