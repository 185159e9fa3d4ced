package tree

import (
	"bytes"
	"context"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transferpy/transferpy/core/agent/manifest"
)

const (
	// maxNames bounds each direction of the cache; a hostile tree may name
	// as many owners as it has files.
	maxNames = 4096

	// maxAsked bounds how often getent is started, for the same reason.
	maxAsked = 512

	getentTimeout = 5 * time.Second
)

// names looks up users and groups: in /etc/passwd and /etc/group, then by
// getent, since a static binary cannot load the site's name services (LDAP,
// SSSD) itself. Answers are kept, also that there is none. Safe for
// concurrent use.
type names struct {
	mu    sync.Mutex
	known map[string]string // "passwd 0" -> "root", "group wheel" -> "10"; "" for none
	asked int
}

func newNames() *names { return &names{known: make(map[string]string)} }

// user and group return a name; "" if there is none.
func (n *names) user(uid uint32) string  { return n.name("passwd", uid) }
func (n *names) group(gid uint32) string { return n.name("group", gid) }

func (n *names) name(db string, id uint32) string {
	name := n.lookup(db, strconv.FormatUint(uint64(id), 10))
	if len(name) > manifest.MaxOwnerLen {
		return ""
	}
	return name
}

// uid and gid return the number of a name.
func (n *names) uid(name string) (uint32, bool) { return n.number("passwd", name) }
func (n *names) gid(name string) (uint32, bool) { return n.number("group", name) }

func (n *names) number(db, name string) (uint32, bool) {
	// All digits would be looked up as a number, a dash is an option, and
	// the others cannot stand in a name.
	if name == "" || strings.Trim(name, "0123456789") == "" || name[0] == '-' || strings.ContainsAny(name, ":/\n\x00") {
		return 0, false
	}
	id, err := strconv.ParseUint(n.lookup(db, name), 10, 32)
	return uint32(id), err == nil
}

// lookup returns the name of a number or the number of a name.
func (n *names) lookup(db, key string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	full := db + " " + key
	if v, ok := n.known[full]; ok {
		return v
	}
	v := local(db, key)
	if v == "" && n.asked < maxAsked {
		n.asked++
		v = getent(db, key)
	}
	if len(n.known) >= maxNames {
		clear(n.known)
	}
	n.known[full] = v
	return v
}

func isNumber(key string) bool {
	return key[0] >= '0' && key[0] <= '9' && strings.Trim(key, "0123456789") == ""
}

// local asks the host's own files.
func local(db, key string) string {
	switch {
	case db == "passwd" && isNumber(key):
		if u, err := user.LookupId(key); err == nil {
			return u.Username
		}
	case db == "passwd":
		if u, err := user.Lookup(key); err == nil {
			return u.Uid
		}
	case isNumber(key):
		if g, err := user.LookupGroupId(key); err == nil {
			return g.Name
		}
	default:
		if g, err := user.LookupGroup(key); err == nil {
			return g.Gid
		}
	}
	return ""
}

// getent asks the site's name services. A host without getent has none.
func getent(db, key string) string {
	ctx, cancel := context.WithTimeout(context.Background(), getentTimeout)
	defer cancel()
	var out firstLine
	cmd := exec.CommandContext(ctx, "/usr/bin/getent", db, key)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.WaitDelay = "/", []string{"LC_ALL=C"}, &out, time.Second
	if err := cmd.Run(); err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(out.b, []byte("\n"))
	fields := strings.SplitN(string(line), ":", 4)
	if len(fields) < 3 {
		return ""
	}
	if isNumber(key) {
		return fields[0]
	}
	return fields[2]
}

// firstLine keeps the beginning of what is written to it; a group's line may
// go on for thousands of members.
type firstLine struct{ b []byte }

func (w *firstLine) Write(p []byte) (int, error) {
	w.b = append(w.b, p[:min(len(p), 1024-min(len(w.b), 1024))]...)
	return len(p), nil
}
