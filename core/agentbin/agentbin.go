// Package agentbin holds the agents that transferpy places on hosts:
// compressed, embedded in the program, so that one file is all there is to
// install.
//
// `make build` puts them into files/ (see pack) before it builds transferpy.
// The package also builds without them; then only the hosts of the local
// executor are served, by an agent that lies beside the running program.
package agentbin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"

	"github.com/transferpy/transferpy/sdk"
)

// IndexFile names the digests of the packed agents, so that none need be
// unpacked to be asked for.
const IndexFile = "index.json"

//go:embed files
var files embed.FS

// Agent is one agent.
type Agent struct {
	Arch   string // GOARCH; all agents are for linux
	Digest string // hex SHA-256 of the binary, unpacked
	packed func() ([]byte, error)
}

// Packed returns the binary as gzip.
func (a Agent) Packed() ([]byte, error) { return a.packed() }

var embedded = sync.OnceValues(func() ([]Agent, error) { return read(files) })

// All returns the embedded agents; none in a build without them.
func All() ([]Agent, error) { return embedded() }

var archForm = regexp.MustCompile(`^[a-z0-9]{2,16}$`)

// read takes the index of packed agents; a tree without one has none.
func read(tree fs.FS) ([]Agent, error) {
	data, err := fs.ReadFile(tree, "files/"+IndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var index map[string]string
	if err := json.Unmarshal(data, &index); err != nil {
		return nil, fmt.Errorf("index of the embedded agents: %w", err)
	}
	var all []Agent
	for arch, digest := range index {
		if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size || !archForm.MatchString(arch) {
			return nil, fmt.Errorf("index of the embedded agents: %q: %q", arch, digest)
		}
		all = append(all, Agent{Arch: arch, Digest: digest, packed: func() ([]byte, error) {
			return fs.ReadFile(tree, "files/linux-"+arch+".gz")
		}})
	}
	return all, nil
}

// Beside returns the agent that lies beside the program exe, as
// transferpy-agent or transferpy-agent-linux-ARCH, for this machine's own
// architecture; sdk.KindNotFound if there is none.
func Beside(exe string) (Agent, error) {
	for _, name := range []string{"transferpy-agent", "transferpy-agent-linux-" + runtime.GOARCH} {
		path := filepath.Join(filepath.Dir(exe), name)
		binary, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Agent{}, fmt.Errorf("read the agent beside this program: %w", err)
		}
		return Agent{Arch: runtime.GOARCH, Digest: Digest(binary), packed: func() ([]byte, error) { return Pack(binary, gzip.BestSpeed) }}, nil
	}
	return Agent{}, &sdk.Error{Kind: sdk.KindNotFound, Message: "no agent lies beside " + exe, Hint: "run `make build`"}
}

// Digest is what a binary is known by: its SHA-256 in hex.
func Digest(binary []byte) string {
	sum := sha256.Sum256(binary)
	return hex.EncodeToString(sum[:])
}

// Pack compresses a binary for its way to a host. It writes no time and no
// name, so that one binary packs to the same bytes everywhere. level is one of
// compress/gzip.
func Pack(binary []byte, level int) ([]byte, error) {
	var b bytes.Buffer
	zw, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		return nil, err
	}
	if _, err := zw.Write(binary); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
