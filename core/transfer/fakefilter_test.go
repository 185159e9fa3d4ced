package transfer

import (
	"bytes"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// closed are the members that a filter keeps from being reached.
func (s *site) closed() []string {
	var names []string
	for name, host := range s.ends {
		h := s.hosts[host]
		drops := h.filtered != "" && slices.ContainsFunc(strings.Split(h.filtered, "+"), func(by string) bool { return h.opened[by] == 0 })
		if name != "source" && drops {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// finds is what the source's agent tells of closed ports.
func (h *fakeHost) finds() []control.ClosedPort {
	if _, is := h.phases["source"]; !is {
		return nil
	}
	var list []control.ClosedPort
	h.rounds++
	for _, name := range h.site.closed() {
		list = append(list, control.ClosedPort{Member: name, Rounds: h.rounds, Addresses: []control.ClosedAddress{{Address: "192.0.2.2", Local: "192.0.2.1", Outcome: "timeout"}}})
	}
	return list
}

// run carries out a command, and prints the key unless the command is known.
func (h *fakeHost) run(key string, c sdk.Command) []byte {
	switch {
	case c.Argv[0] == "detect":
		return []byte(h.filtered)
	case c.Argv[0] == "open":
		h.opened[string(c.Argv[1])]++
	case len(c.Argv) == 2 && c.Argv[1] == "route":
		req, err := control.DecodeRequest(bytes.NewReader(c.Stdin))
		if err != nil {
			return nil
		}
		reply := &control.Reply{Routes: map[string][]string{}}
		for _, to := range req.Route.To {
			reply.Routes[to.Member] = []string{"192.0.2.1", "2001:db8::1"}
		}
		data, _ := control.EncodeReply(reply)
		return data
	}
	return []byte(key)
}
