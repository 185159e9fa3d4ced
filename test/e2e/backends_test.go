package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// Where the control host keeps what the backends read.
const (
	cuminConfig = "/etc/cumin/config.yaml"
	saltHosts   = "/etc/salt-hosts.json"
	saltLog     = "/var/log/salt-calls"
)

// backend sets up a site's remote execution on ctl and has transferpy use it,
// or has it fail: cumin is the machine's own over real sshd, salt the fake of
// plugins/executors/salt, which runs commands on the hosts for real.
func (s *script) backend(_ bool, args []string) {
	s.args("backend cumin|salt [down]", args, 1, 2)
	down := len(args) == 2 && args[1] == "down"
	switch {
	case args[0] == "cumin" && !down:
		if _, err := exec.LookPath("cumin"); err != nil {
			s.ts.Fatalf("cumin is not installed: scripts/test-deps")
		}
		s.onControl(cuminConfig, "transport: clustershell\nlog_file: /var/log/cumin.log\ndefault_backend: direct\n")
		s.onControl("/etc/transferpy/transferpy.conf", "[DEFAULT]\nexecutor = cumin\n")
	case args[0] == "cumin":
		s.onControl(cuminConfig, "transport: none\n") // it refuses to begin
	case args[0] == "salt":
		s.ts.Check(buildFakeSalt(s.tb.Context()))
		s.onControl(saltHosts, s.saltWorld(down))
		s.onControl("/etc/transferpy/transferpy.conf", fmt.Sprintf("[DEFAULT]\nexecutor = salt\n[executor salt]\ncommand = %s/fakesalt\n  %s\nid = {short}\n", lab.BinDir, saltHosts))
	default:
		s.ts.Fatalf("there is no backend %s", args[0])
	}
}

// onControl writes a file of the control host, whole at once.
func (s *script) onControl(path, text string) {
	file := s.path(lab.Control, path)
	s.ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	s.ts.Check(os.WriteFile(file+".new", []byte(text), 0o644))
	s.ts.Check(os.Rename(file+".new", file))
}

// saltWorld is what the fake reads: each dbN is an accepted minion but db9,
// which is accepted and down.
func (s *script) saltWorld(down bool) string {
	minions := map[string][]string{"db9": nil}
	for _, h := range s.Hosts {
		if strings.HasPrefix(h.Name, "db") {
			minions[h.Name] = []string{"ssh", "-oBatchMode=yes", h.Name}
		}
	}
	data, err := json.Marshal(map[string]any{"Minions": minions, "Down": []string{"db9"}, "MasterDown": down, "Log": saltLog})
	s.ts.Check(err)
	return string(data)
}

// buildFakeSalt builds the fake where the control host has its programs.
func buildFakeSalt(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(binDir, "fakesalt"), "./plugins/executors/salt/fakesalt")
	build.Dir = filepath.Join("..", "..")
	build.WaitDelay = time.Second
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build fakesalt: %w: %s", err, out)
	}
	return nil
}
