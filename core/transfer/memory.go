package transfer

import (
	"maps"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// memory is what commands that only look have answered a moment ago. Each answer
// serves once: who asks a second time wants to know what has changed. So a
// firewall that looks before it opens costs no call where it has just looked.
type memory struct {
	mu sync.Mutex
	by map[string]remembered
}

func newMemory() *memory { return &memory{by: map[string]remembered{}} }

type remembered struct {
	sdk.Result
	at time.Time
}

// fresh is how long an answer may be used.
const fresh = 30 * time.Second

// add takes what another one remembers.
func (m *memory) add(other *memory) {
	other.mu.Lock()
	known := maps.Clone(other.by)
	other.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.by, known)
}

func (m *memory) keep(work []sdk.HostCommands, results []sdk.HostResults) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, w := range work {
		for k, cmd := range w.Commands {
			if r := results[i]; r.Err == nil && k < len(r.Results) && r.Results[k].Err == nil && !r.Results[k].Truncated {
				m.by[commandKey(w.Host, cmd)] = remembered{r.Results[k], time.Now()}
			}
		}
	}
}

// recall returns the results if all of them are remembered, else nil.
func (m *memory) recall(work []sdk.HostCommands) []sdk.HostResults {
	m.mu.Lock()
	defer m.mu.Unlock()
	var results []sdk.HostResults
	var used []string
	for _, w := range work {
		res := sdk.HostResults{Host: w.Host}
		for _, cmd := range w.Commands {
			key := commandKey(w.Host, cmd)
			r, ok := m.by[key]
			if !ok || time.Since(r.at) > fresh {
				return nil
			}
			res.Results, used = append(res.Results, r.Result), append(used, key)
		}
		results = append(results, res)
	}
	for _, key := range used {
		delete(m.by, key)
	}
	return results
}
