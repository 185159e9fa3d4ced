package record

import (
	"os"
	"os/user"
	"strconv"
	"strings"
)

// User is who ran a command. UID and LoginUID are the kernel's word; Sudo is
// what the environment claims.
type User struct {
	UID  int    `json:"uid"`
	Name string `json:"name,omitempty"`
	// LoginUID is the user whom this session began as, through su and sudo;
	// nil where the kernel keeps none, as for a service.
	LoginUID  *int   `json:"login_uid,omitempty"`
	LoginName string `json:"login_name,omitempty"`
	// Sudo is $SUDO_USER: whoever may change this process's environment may
	// claim any name.
	Sudo string `json:"sudo_user,omitempty"`
}

// unsetUID is the kernel's word for no loginuid, (uid_t)-1.
const unsetUID = 1<<32 - 1

// maxUserName bounds what is kept of $SUDO_USER, in bytes.
const maxUserName = 256

// CurrentUser is who runs this process.
func CurrentUser() User {
	u := User{UID: os.Getuid(), Name: nameOf(os.Getuid()), Sudo: os.Getenv("SUDO_USER")}
	u.Sudo = u.Sudo[:min(len(u.Sudo), maxUserName)]
	if text, err := os.ReadFile("/proc/self/loginuid"); err == nil {
		if id, ok := parseLoginUID(string(text)); ok {
			u.LoginUID, u.LoginName = &id, nameOf(id)
		}
	}
	return u
}

// parseLoginUID reads what the kernel says; false where it says that there is
// none.
func parseLoginUID(text string) (int, bool) {
	id, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil || id == unsetUID {
		return 0, false
	}
	return int(id), true
}

// nameOf is a user's name; empty if none is known here.
func nameOf(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}
