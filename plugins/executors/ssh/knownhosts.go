package ssh

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/skeema/knownhosts"

	"github.com/transferpy/transferpy/sdk"
)

// knownHosts holds the known_hosts files as last read. Those of a site have
// tens of thousands of lines; to read them for each of many hosts would take
// longer than all the handshakes.
type knownHosts struct {
	mu   sync.Mutex
	sets map[string]knownSet // by the names of the files
}

type knownSet struct {
	stamp string // what the files were like when they were read
	db    *knownhosts.HostKeyDB
}

// load returns the contents of the files, from memory as long as they are
// unchanged. Files that do not exist are as good as empty. Callers that come
// at once wait for the first to have read them.
func (k *knownHosts) load(names []string) (*knownhosts.HostKeyDB, *sdk.Error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var files []string
	var stamp strings.Builder
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		files = append(files, name)
		fmt.Fprintf(&stamp, "%d %d\n", info.Size(), info.ModTime().UnixNano())
	}
	key := strings.Join(files, "\n")
	if set, ok := k.sets[key]; ok && set.stamp == stamp.String() {
		return set.db, nil
	}
	db, err := knownhosts.NewDB(files...)
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: "cannot read known_hosts: " + err.Error(), Hint: "mend or remove that line"}
	}
	if k.sets == nil {
		k.sets = make(map[string]knownSet)
	}
	k.sets[key] = knownSet{stamp.String(), db}
	return db, nil
}
