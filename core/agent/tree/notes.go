package tree

import (
	"slices"
	"strings"
	"sync"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// What is said about things that are not preserved. Each is said once, with
// a count and one example.
const (
	noteSockets    = "sockets are not copied"
	noteFifos      = "fifos are not copied"
	noteDevices    = "device nodes are not copied"
	noteHardLinks  = "hard links are copied as separate files"
	noteXattrs     = "extended attributes are not preserved"
	noteACLs       = "ACLs are not preserved"
	noteHoles      = "holes in small sparse files are written as zeros"
	noteNoProc     = "extended attributes and ACLs were not looked for: /proc is not mounted"
	noteOwner      = "owners are not preserved: the agent is not root"
	noteGroup      = "groups are not preserved: the agent's user is not a member"
	noteNoOwners   = "owners and groups are not preserved: the file system or the user namespace does not allow it"
	noteNoModes    = "modes are not preserved: the file system does not keep them"
	noteSetID      = "set-user-ID and set-group-ID bits are left out where the owner is not preserved"
	noteTimes      = "modification times are kept to the precision of the file system"
	noteTimeRange  = "modification times beyond the range of the file system are not preserved"
	noteNewer      = "metadata of a newer source is not preserved"
	noteUnseen     = "entries below directories that are closed to the agent's user were not looked at again"
	noteSymlinkOwn = "modification times of symbolic links are not preserved"
)

// notes counts what is to be said. Safe for concurrent use.
type notes struct {
	mu sync.Mutex
	by map[string]control.Warning
}

func (n *notes) add(what string, example sdk.Raw) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w, ok := n.by[what]
	if !ok {
		if n.by == nil {
			n.by = make(map[string]control.Warning)
		}
		w = control.Warning{What: what, Example: example}
	}
	w.Count++
	n.by[what] = w
}

// list returns the warnings, sorted by what they say.
func (n *notes) list() []control.Warning {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]control.Warning, 0, len(n.by))
	for _, w := range n.by {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b control.Warning) int { return strings.Compare(a.What, b.What) })
	return all
}
