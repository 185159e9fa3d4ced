package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// lookupTimeout bounds a look into the host's user database, which may be
// on the network.
const lookupTimeout = 10 * time.Second

// account is who a command runs as.
type account struct {
	name string
	home string
	cred *syscall.Credential // nil: as the agent
}

// self is the agent's own account.
var self = sync.OnceValue(func() *account {
	who := &account{name: strconv.Itoa(os.Getuid()), home: "/"}
	if u, err := user.Current(); err == nil {
		who.name, who.home = u.Username, u.HomeDir
	}
	return who
})

// accountOf finds the account that a command is to run as. Only root may
// name another than its own.
func accountOf(ctx context.Context, name string) (*account, error) {
	me := self()
	if name == "" || name == me.name {
		return me, nil
	}
	if os.Getuid() != 0 {
		return nil, &sdk.Error{Kind: sdk.KindPermission,
			Message: fmt.Sprintf("a command is to run as %q, but the agent runs as %q", name, me.name),
			Hint:    "let the executor log in as root, or as that user"}
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	u, err := lookupUser(ctx, name)
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("user %q: %w", name, err)
	}
	groups, err := lookupGroups(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", name, err)
	}
	return &account{name: name, home: u.HomeDir, cred: &syscall.Credential{
		Uid: uint32(uid), Gid: uint32(gid), Groups: groups,
	}}, nil
}

// lookupUser asks /etc/passwd, and then getent: a static binary does not see
// what LDAP or sssd know.
func lookupUser(ctx context.Context, name string) (*user.User, error) {
	if u, err := user.Lookup(name); err == nil {
		return u, nil
	}
	if strings.HasPrefix(name, "-") {
		return nil, &sdk.Error{Kind: sdk.KindNotFound, Message: fmt.Sprintf("there is no user %q", name)}
	}
	out, err := exec.CommandContext(ctx, "getent", "passwd", name).Output()
	fields := strings.Split(strings.TrimSpace(string(out)), ":")
	if err != nil || len(fields) < 7 {
		return nil, &sdk.Error{Kind: sdk.KindNotFound, Message: fmt.Sprintf("there is no user %q", name)}
	}
	return &user.User{Username: name, Uid: fields[2], Gid: fields[3], HomeDir: fields[5]}, nil
}

// lookupGroups returns all groups of u, from id where there is one, for the
// same reason.
func lookupGroups(ctx context.Context, u *user.User) ([]uint32, error) {
	var names []string
	if out, err := exec.CommandContext(ctx, "id", "-G", u.Username).Output(); err == nil {
		names = strings.Fields(string(out))
	} else if names, err = u.GroupIds(); err != nil {
		return nil, err
	}
	groups := make([]uint32, 0, len(names))
	for _, name := range names {
		gid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return nil, err
		}
		groups = append(groups, uint32(gid))
	}
	return groups, nil
}
