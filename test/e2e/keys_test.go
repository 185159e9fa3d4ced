package e2e

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// seedOf finds the private key of a public one in the memory of a process, as
// root can and nobody else; in hex.
func seedOf(pid int, public []byte) (string, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return "", err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return "", err
	}
	defer mem.Close()
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		if seed := findSeed(mem, from, to, public); seed != "" {
			return seed, nil
		}
	}
	return "", fmt.Errorf("process %d does not hold the private key of %x", pid, public)
}

// findSeed looks for an Ed25519 key as Go keeps it, the seed before the public
// key, between two addresses.
func findSeed(mem *os.File, from, to int64, public []byte) string {
	const piece, lap = 1 << 20, 64
	b := make([]byte, piece+lap)
	for at := from; at < to; at += piece {
		n, _ := mem.ReadAt(b[:min(piece+lap, to-at)], at) // what cannot be read is not ours
		for rest, i := b[:n], 0; ; {
			j := bytes.Index(rest[i:], public)
			if j < 0 {
				break
			}
			if i += j; i >= ed25519.SeedSize {
				seed := rest[i-ed25519.SeedSize : i]
				if bytes.Equal(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey), public) {
					return hex.EncodeToString(seed)
				}
			}
			i++
		}
	}
	return ""
}

// tlsSeed is the private key of the agent that answers at an address of a host.
func (r *rig) tlsSeed(host, address string) string {
	r.t.Helper()
	public, err := hex.DecodeString(r.stranger("tls", address, "").Key)
	if err != nil || len(public) == 0 {
		r.t.Fatalf("%s shows no key at %s: %v", host, address, err)
	}
	return r.seed(host, public)
}

func (r *rig) seed(host string, public []byte) string {
	r.t.Helper()
	var last error
	for _, p := range r.daemons(host) {
		seed, err := seedOf(p.PID, public)
		if err == nil {
			return seed
		}
		last = err
	}
	r.t.Fatalf("%s: %v", host, last)
	return ""
}

// signingSeed is the private key with which a host's agent signs.
func (r *rig) signingSeed(host string) string {
	r.t.Helper()
	found, err := filepath.Glob(r.path(host, "/var/lib/transferpy/run/*/*/agent.json"))
	if err != nil || len(found) != 1 {
		r.t.Fatalf("%s has the agents %v, %v", host, found, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		r.t.Fatal(err)
	}
	var info struct {
		Ready struct {
			SigningKey []byte `json:"signing_key"`
		} `json:"ready"`
	}
	if err := json.Unmarshal(text, &info); err != nil || len(info.Ready.SigningKey) == 0 {
		r.t.Fatalf("%s: %v in %s", host, err, text)
	}
	return r.seed(host, info.Ready.SigningKey)
}

// sampler collects the arguments and environments of all processes of the lab,
// as often as it can.
type sampler struct {
	stop chan struct{}
	done sync.WaitGroup
	seen map[string]bool // what was seen, whole
	n    int             // processes looked at
}

func (r *rig) sample() *sampler {
	s := &sampler{stop: make(chan struct{}), seen: map[string]bool{}}
	s.done.Go(func() {
		for {
			for _, h := range r.Hosts {
				list, _ := r.Processes(h.Name) // they come and go
				for _, p := range list {
					s.n++
					for _, name := range []string{"cmdline", "environ"} {
						if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, name)); err == nil {
							s.seen[string(text)] = true
						}
					}
				}
			}
			select {
			case <-s.stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return s
}

// end returns what was seen.
func (s *sampler) end() string {
	close(s.stop)
	s.done.Wait()
	var all strings.Builder
	for text := range s.seen {
		all.WriteString(text + "\n")
	}
	return all.String()
}

// holds reports in which form a text holds a secret.
func holds(text []byte, seed string) string {
	raw, _ := hex.DecodeString(seed)
	for form, needle := range map[string][]byte{
		"raw": raw, "hex": []byte(seed), "HEX": []byte(strings.ToUpper(seed)),
		"base64": []byte(base64.StdEncoding.EncodeToString(raw)[:40]), "base64url": []byte(base64.URLEncoding.EncodeToString(raw)[:40]),
	} {
		if bytes.Contains(text, needle) {
			return form
		}
	}
	return ""
}

// TestNoKeyAnywhere takes the agents' private keys out of their memory and
// looks for them, throughout a transfer, in the arguments and environments of
// all processes, and in all files that the hosts have written: state, logs,
// journals, what the terminal got.
func TestNoKeyAnywhere(t *testing.T) {
	t.Parallel()
	r := slowRig(t, 2)
	sampled := r.sample()
	j := r.start([]string{"TERM=dumb"}, "--verbose", "--plugin-debug", "--limit-rate", "8M", "db1:/srv/data", "db2:/srv/in")
	j.moving("db2", "/srv/in")
	seeds := map[string]string{
		"db2's TLS key": r.tlsSeed("db2", r.address("db2")), "db1's signing key": r.signingSeed("db1"), "db2's signing key": r.signingSeed("db2"),
	}
	judge := func(where string, text []byte) {
		for name, seed := range seeds {
			if form := holds(text, seed); form != "" {
				t.Errorf("%s is in %s, as %s", name, where, form)
			}
		}
	}
	files := r.eachWritten(judge)
	res := j.wants(0)
	files += r.eachWritten(judge)
	judge("the terminal", []byte(res.said()))
	seen := sampled.end()
	judge("an argument list or an environment", []byte(seen))
	if !strings.Contains(seen, "transferpy-agent\x00serve") || !strings.Contains(seen, "__plugin") || files < 10 {
		t.Errorf("too little was seen: %d files, %d looks at processes", files, sampled.n)
	}
	t.Logf("%d looks at processes, %d files", sampled.n, files)
	r.clean()
}

// eachWritten hands each file that is not the machine's, on every host, to
// judge, and returns how many there were.
func (r *rig) eachWritten(judge func(where string, text []byte)) (n int) {
	for _, h := range r.Hosts {
		for _, dir := range []string{"/var/lib", "/var/tmp", "/tmp", "/run", "/root", "/home", "/srv/in", "/var/log", "/dev/shm"} {
			if h.Name == lab.Control && dir == "/srv/in" {
				continue
			}
			filepath.WalkDir(r.path(h.Name, dir), func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return nil
				}
				f, err := os.Open(path)
				if err != nil {
					return nil
				}
				defer f.Close()
				var b bytes.Buffer
				bufio.NewReader(f).WriteTo(&b)
				n++
				judge(h.Name+":"+strings.TrimPrefix(path, r.path(h.Name, "/")), b.Bytes())
				return nil
			})
		}
	}
	return n
}
