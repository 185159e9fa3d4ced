package lab

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StateDir holds one directory for each lab, with its keys, the logs of its
// init processes, a lock that these hold, and state.json.
const StateDir = "/run/transferpy-lab"

// sweepAge keeps a sweep from taking a lab whose processes do not hold the
// lock yet, since its maker has only just made the directory.
const sweepAge = 2 * upTimeout

// Available says why this machine cannot have a lab, or nil.
func Available() error {
	if os.Getuid() != 0 {
		return errors.New("not root: the lab needs network namespaces; run: sudo make test-e2e")
	}
	for tool, pkg := range map[string]string{
		"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux",
		"ssh-keygen": "openssh-client", "/usr/sbin/sshd": "openssh-server",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing: the lab needs it; run: apt-get install %s", tool, pkg)
		}
	}
	probe := exec.Command("/bin/true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	if err := probe.Run(); err != nil {
		return fmt.Errorf("this machine does not let root make namespaces (%w): run the lab on a host or in a privileged container", err)
	}
	return nil
}

// claim makes the directory of a lab and takes its lock.
func claim(name string) (*Lab, *os.File, error) {
	if name == "" {
		var b [4]byte
		rand.Read(b[:])
		name = "t-" + strconv.Itoa(os.Getpid()) + "-" + hex.EncodeToString(b[:])
	}
	if !nameRE.MatchString(name) {
		return nil, nil, fmt.Errorf("lab name %q: use a-z, 0-9 and dashes, at most 40", name)
	}
	if err := os.MkdirAll(StateDir, 0o700); err != nil {
		return nil, nil, err
	}
	l := &Lab{Name: name, Made: time.Now().UTC(), dir: filepath.Join(StateDir, name)}
	if err := os.Mkdir(l.dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, nil, fmt.Errorf("lab %s stands already; remove it: go run ./test/lab/cmd/lab down -name %s", name, name)
		}
		return nil, nil, err
	}
	lock, err := os.OpenFile(l.lockPath(), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, nil, fmt.Errorf("lock lab %s: %w", name, err)
	}
	return l, lock, nil
}

func (l *Lab) lockPath() string { return filepath.Join(l.dir, "lock") }

// save writes what was made, so that another process can use or remove it.
func (l *Lab) save() error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "state.json"), text, 0o600)
}

// Open is a lab that another process made and kept. Close on it removes it.
func Open(name string) (*Lab, error) {
	if !nameRE.MatchString(name) {
		return nil, fmt.Errorf("lab name %q: use a-z, 0-9 and dashes, at most 40", name)
	}
	l := &Lab{dir: filepath.Join(StateDir, name)}
	text, err := os.ReadFile(filepath.Join(l.dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no lab %s (%w); make it: go run ./test/lab/cmd/lab up -name %s", name, fs.ErrNotExist, name)
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(l.dir, "state.json"), err)
	}
	l.Name = name
	return l, nil
}

// List names the labs of this machine, dead ones too.
func List() ([]string, error) {
	entries, err := os.ReadDir(StateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// Down removes a lab, whatever is left of it; that there is none is no error.
func Down(name string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("lab name %q: use a-z, 0-9 and dashes, at most 40", name)
	}
	l, err := Open(name)
	if err == nil {
		return l.Close()
	}
	// Without a readable state there may still be a directory, of a lab
	// that died while it was made.
	dir := filepath.Join(StateDir, name)
	if held(filepath.Join(dir, "lock")) {
		return fmt.Errorf("lab %s is being made just now by another process", name)
	}
	return os.RemoveAll(dir)
}

// Alive says whether a process of the lab still lives.
func (l *Lab) Alive() bool { return held(l.lockPath()) }

// held says whether a process holds the lock.
func held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) != nil
}

// sweep removes the directories of labs that have died with their makers.
func sweep() error {
	names, err := List()
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(StateDir, name)
		info, err := os.Stat(dir)
		if err != nil || time.Since(info.ModTime()) < sweepAge || held(filepath.Join(dir, "lock")) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove what a dead lab left: %w", err)
		}
	}
	return nil
}

// alive says whether the host's init process lives; a zombie does not.
func (h *Host) alive() bool {
	return h.PID > 0 && h.Born != "" && born(h.PID) == h.Born
}

// born is the start time of a process in clock ticks, empty when it is dead.
func born(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the name in brackets and may hold anything.
	end := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return ""
	}
	return fields[19]
}
