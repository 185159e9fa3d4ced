package sshclient

import (
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// failed is ssh's exit code for failures of its own.
const failed = 255

// failures are what ssh says, and what it means.
var failures = []struct {
	text string
	kind sdk.ErrorKind
	hint string
}{
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", sdk.KindAuth, "somebody may be in between; only if the host was set up anew, remove its old key with ssh-keygen -R"},
	{"Host key verification failed", sdk.KindAuth, "its key is not in known_hosts: compare its fingerprint, then add it with ssh-keyscan"},
	{"Permission denied (", sdk.KindAuth, "check that ssh with BatchMode=yes logs in there"},
	{"Too many authentication failures", sdk.KindAuth, "name the key by IdentityFile with IdentitiesOnly yes"},
	{"Could not resolve hostname", sdk.KindUnreachable, "check the spelling, or HostName in ssh_config"},
	{"Connection refused", sdk.KindUnreachable, "is sshd running there, on that port?"},
	{"timed out", sdk.KindUnreachable, "is the host up, and its port open to this machine?"},
	{"No route to host", sdk.KindUnreachable, "is the host up, and its network reachable from here?"},
	{"Network is unreachable", sdk.KindUnreachable, "is its network reachable from here?"},
	{"Connection closed by", sdk.KindUnreachable, "see sshd's log there"},
	{"Connection reset by", sdk.KindUnreachable, "see sshd's log there"},
	{"Bad configuration option", sdk.KindConfig, "mend ssh's configuration"},
	{"Bad owner or permissions", sdk.KindConfig, "mend the rights of ssh's configuration"},
}

// Failure reads from what ssh has printed why it did not reach the host; nil
// if it says nothing of the kind. Error.Host is left empty.
func Failure(text string) *sdk.Error {
	for _, f := range failures {
		i := strings.Index(text, f.text)
		if i < 0 {
			continue
		}
		begin := strings.LastIndexByte(text[:i], '\n') + 1
		line, _, _ := strings.Cut(text[begin:], "\n")
		line = strings.TrimSpace(line)
		if f.kind == sdk.KindAuth {
			line = strings.Trim(line, "@ ")
		}
		return &sdk.Error{Kind: f.kind, Message: sdk.Raw(line[:min(len(line), 300)]).Display(), Hint: f.hint}
	}
	return nil
}
