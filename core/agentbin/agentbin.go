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
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"

	"github.com/transferpy/transferpy/sdk"
)

// maxBinary bounds an agent's size, packed and unpacked.
const maxBinary = 64 << 20

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

// Binary returns the binary, unpacked and checked against Digest.
func (a Agent) Binary() ([]byte, error) {
	packed, err := a.packed()
	if err != nil {
		return nil, err
	}
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("the embedded agent for %s: %w", a.Arch, err)
	}
	binary, err := io.ReadAll(io.LimitReader(zr, maxBinary+1))
	if err != nil {
		return nil, fmt.Errorf("the embedded agent for %s: %w", a.Arch, err)
	}
	if got := digest(binary); got != a.Digest {
		return nil, fmt.Errorf("the embedded agent for %s has digest %s, not %s", a.Arch, got, a.Digest)
	}
	return binary, nil
}

var embedded = sync.OnceValues(func() ([]Agent, error) { return read(files) })

// All returns the embedded agents; none in a build without them.
func All() ([]Agent, error) { return embedded() }

// Embedded returns the agent for an architecture; sdk.KindUnsupported where
// none is embedded.
func Embedded(arch string) (Agent, error) {
	all, err := embedded()
	if err != nil {
		return Agent{}, err
	}
	for _, a := range all {
		if a.Arch == arch {
			return a, nil
		}
	}
	return Agent{}, missing(arch, len(all) == 0)
}

func missing(arch string, none bool) error {
	e := &sdk.Error{Kind: sdk.KindUnsupported,
		Message: fmt.Sprintf("this program carries no agent for linux/%s", arch), Hint: "build one: make agents ARCHES=" + arch}
	if none {
		e.Message, e.Hint = "this program was built without agents: it serves the local executor only", "run `make build`"
	}
	return e
}

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
		return Agent{Arch: runtime.GOARCH, Digest: digest(binary), packed: func() ([]byte, error) { return pack(binary) }}, nil
	}
	return Agent{}, &sdk.Error{Kind: sdk.KindNotFound, Message: "no agent lies beside " + exe, Hint: "run `make build`"}
}

func digest(binary []byte) string {
	sum := sha256.Sum256(binary)
	return hex.EncodeToString(sum[:])
}

func pack(binary []byte) ([]byte, error) {
	var b bytes.Buffer
	zw, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
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
