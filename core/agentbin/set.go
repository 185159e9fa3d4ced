package agentbin

import (
	"fmt"
	"os"
	"sync"

	"github.com/transferpy/transferpy/sdk"
)

// Set finds agents for the hosts of a transfer: those embedded, else for the
// hosts of the local executor the one beside the running program. The zero
// value is ready; it is safe for concurrent use.
type Set struct {
	once   sync.Once
	beside Agent
	err    error
}

// Digests returns the digests of the agents there are, by architecture. With
// local, an agent beside the program counts where none is embedded. The error
// says how to get agents when there are none.
func (s *Set) Digests(local bool) (map[string]string, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	digests := make(map[string]string, len(all))
	for _, a := range all {
		digests[a.Arch] = a.Digest
	}
	if len(digests) > 0 {
		return digests, nil
	}
	if !local {
		return nil, &sdk.Error{Kind: sdk.KindUnsupported,
			Message: "this program was built without agents: it serves the local executor only", Hint: "run `make build`"}
	}
	a, err := s.local()
	if err != nil {
		return nil, err
	}
	digests[a.Arch] = a.Digest
	return digests, nil
}

// Packed returns the agent with that digest as gzip.
func (s *Set) Packed(digest string) ([]byte, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	for _, a := range all {
		if a.Digest == digest {
			return a.Packed()
		}
	}
	if a, err := s.local(); err == nil && a.Digest == digest {
		return a.Packed()
	}
	return nil, fmt.Errorf("there is no agent with digest %s", digest)
}

func (s *Set) local() (Agent, error) {
	s.once.Do(func() {
		exe, err := os.Executable()
		if err != nil {
			s.err = err
			return
		}
		s.beside, s.err = Beside(exe)
	})
	return s.beside, s.err
}
