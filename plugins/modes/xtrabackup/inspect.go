package xtrabackup

import (
	"context"
	"strconv"
	"strings"

	"github.com/transferpy/transferpy/plugins/modes/preflight"
	"github.com/transferpy/transferpy/sdk"
)

// growth is what a backup may grow by while it is made, as a part of the data
// directory: 1/20. Its redo log counts in that directory already.
const growth = 20

// Inspect judges the answers.
func (m *mode) Inspect(_ context.Context, t sdk.Transfer, answers []sdk.Answers, _ sdk.Host) (sdk.Findings, error) {
	socket, dirs, err := preflight.Paths(t, usage)
	if err != nil {
		return sdk.Findings{}, err
	}
	in := preflight.New(t, answers)
	if f, ok := in.Facts(t.Source.Host, askSocket, "socket", socket); ok {
		m.source(in, socket, f)
	}
	for i, target := range t.Targets {
		in.Once(i, dirs)
		if f, ok := in.Facts(target.Host, askDir(i), "target directory", dirs[i]); ok {
			in.Directory(target.Host, dirs[i], f)
			in.Empty(target.Host, dirs[i], f)
		}
	}
	return in.Found, nil
}

// source judges the server.
func (m *mode) source(in *preflight.Inspection, socket sdk.Raw, f sdk.PathFacts) {
	host, shown := in.Transfer.Source.Host, socket.Display()
	switch {
	case !f.Exists:
		in.Refuse(sdk.KindNotFound, host, "see whether the server runs, and its option socket", "there is no socket %s", shown)
		return
	case f.Type != sdk.FileSocket && f.Type != sdk.FileSymlink:
		in.Refuse(sdk.KindUnsupported, host, "name the socket of a running server; a data directory is copied by --type file when its server is stopped", "%s is a %s, not a socket", shown, f.Type)
		return
	}
	r, ok := in.Answer(host, askServer)
	if !ok || r.Truncated {
		in.Refuse(sdk.KindInternal, host, "look with --verbose", "the server of %s could not be looked at within %s", shown, lookTime)
		return
	}
	s, err := parseServer(string(r.Stdout))
	if err != nil {
		in.Refuse(sdk.KindUnsupported, host, "look at it by SHOW ALL SLAVES STATUS", "%s: %v", shown, err)
		return
	}
	in.Found.Facts = map[string]string{"tool": s.tool, "client": s.client}
	m.tools(in, &s)
	m.answers(in, socket, &s)
	m.size(in, socket, &s)
	if stops(in.Transfer) {
		m.replication(in, socket, &s)
	}
}

// tools judges what is installed.
func (m *mode) tools(in *preflight.Inspection, s *server) {
	host := in.Transfer.Source.Host
	switch {
	case s.tool != "":
	case s.foreign != "":
		in.Refuse(sdk.KindMissingTool, host, "install the package mariadb-backup of the server's version", "%s is not MariaDB's and cannot read its server", sdk.Raw(s.foreign).Display())
	default:
		in.Refuse(sdk.KindMissingTool, host, "install the package mariadb-backup, or name it by -o xtrabackup.tool=PATH", "neither mariadb-backup nor mariabackup is installed")
	}
}

// answers judges what the server itself says.
func (m *mode) answers(in *preflight.Inspection, socket sdk.Raw, s *server) {
	host := in.Transfer.Source.Host
	switch {
	case s.refused != "":
		kind := sdk.KindPermission
		if strings.Contains(s.refused, "ERROR 2002") {
			kind = sdk.KindUnreachable
		}
		in.Refuse(kind, host, "name a user who may by -o xtrabackup.user=NAME, with its password in a file: -o xtrabackup.defaults_file=PATH",
			"the server of %s does not let us in: %s", socket.Display(), sdk.Raw(s.refused).Display())
	case s.version == "" && s.client == "":
		in.Warn("%s has no client program, so its server could not be asked for its data directory", host)
	case s.version != "" && !strings.Contains(s.version, "MariaDB"):
		in.Refuse(sdk.KindUnsupported, host, "use its own tools", "the server of %s is no MariaDB: %s", socket.Display(), sdk.Raw(s.version).Display())
	}
}

// size says how much the backup will be.
func (m *mode) size(in *preflight.Inspection, socket sdk.Raw, s *server) {
	host := in.Transfer.Source.Host
	incremental := false
	for _, arg := range m.extra {
		incremental = incremental || strings.HasPrefix(arg, "--incremental")
	}
	switch {
	case s.bytes < 0 && s.refused == "":
		in.Warn("the size of the server of %s:%s is not known: whether it fits is not sure", host, socket.Display())
	case incremental:
		in.Warn("how large an incremental backup becomes is not known beforehand")
	case s.bytes >= 0:
		in.Found.Bytes, in.Found.Entries = s.bytes+s.bytes/growth, max(s.files, 0)
		in.Found.Facts["bytes"] = strconv.FormatInt(s.bytes, 10)
	}
}

// replication judges whether it can be stopped.
func (m *mode) replication(in *preflight.Inspection, socket sdk.Raw, s *server) {
	host, shown := in.Transfer.Source.Host, socket.Display()
	switch ran := running(s.replicas); {
	case s.client == "":
		in.Refuse(sdk.KindMissingTool, host, "install the package mariadb-client, or leave out --stop-slave", "neither mariadb nor mysql is installed, by which replication is stopped")
	case s.refused != "": // said already
	case !s.asked:
		in.Refuse(sdk.KindPermission, host, "grant SLAVE MONITOR and REPLICATION SLAVE ADMIN, or leave out --stop-slave", "the server of %s does not tell of its replication: %s", shown, sdk.Raw(s.unasked).Display())
	case len(s.replicas) == 0:
		in.Warn("the server of %s:%s is no replica: there is nothing to stop", host, shown)
	case len(ran) == 0:
		in.Warn("replication of %s:%s does not run: it stays stopped", host, shown)
	default:
		in.Found.Facts["replica"] = words(ran)
	}
}
