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
	noteSockets      = "sockets are not copied"
	noteXattrsClosed = "extended attributes that the agent may not read are not copied"
	noteXattrsLarge  = "extended attributes beyond 768 KiB on one file are not copied"
	noteNoProc       = "extended attributes and ACLs are not preserved: /proc is not mounted"
	noteLinksApart   = "hard links became files of their own: more than 1,500,000 files had names still to come"

	noteFifos      = "fifos are not made: the file system does not allow it"
	noteDevices    = "device nodes are not made: only root may, and not on every file system"
	noteHardLinks  = "hard links became files of their own: the file system has none, or not so many for one file"
	noteXattrs     = "extended attributes are not preserved: the file system or the agent's rights do not allow it"
	noteACLs       = "ACLs are not preserved: the file system or the agent's rights do not allow it"
	noteCaps       = "file capabilities are not preserved: only root may set them, and not on every file system"
	noteLabels     = "SELinux labels are not preserved: this host does not allow it"
	noteForeign    = "attributes of a kind that this agent does not know are not preserved"
	noteOwner      = "owners are not preserved: the agent is not root"
	noteGroup      = "groups are not preserved: the agent's user is not a member"
	noteNoOwners   = "owners and groups are not preserved: the file system or the user namespace does not allow it"
	noteNoModes    = "modes are not preserved: the file system does not keep them"
	noteSetID      = "set-user-ID and set-group-ID bits are left out where the owner is not that of the source"
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
