package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/transferpy/transferpy/test/lab"
)

// agents stop after they have answered, and the kernel takes some time to
// give back what a dead process held.
const settleTime = 5 * time.Second

// clean fails the test unless, within seconds, nothing of transferpy is left
// on the hosts but the agent's program: no process, no open port, no staging
// directory, no state. Without a host it looks at all of them.
func (r *rig) clean(hosts ...string) {
	r.t.Helper()
	if err := r.cleanError(settleTime, hosts...); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) cleanError(wait time.Duration, hosts ...string) error {
	if len(hosts) == 0 {
		for _, h := range r.Hosts {
			hosts = append(hosts, h.Name)
		}
	}
	return r.within(wait, func() error {
		var errs []error
		for _, host := range hosts {
			errs = append(errs, r.leftovers(host))
		}
		return errors.Join(errs...)
	})
}

// leftovers is an error that lists them.
func (r *rig) leftovers(host string) error {
	var errs []error
	list, err := r.Processes(host)
	errs = append(errs, err)
	for _, p := range list {
		if strings.HasPrefix(p.Name, "transferpy") || strings.Contains(strings.Join(p.Args, " "), "transferpy-agent") {
			errs = append(errs, fmt.Errorf("%s: process %v", host, p))
		}
	}
	ports, err := r.Listening(host)
	errs = append(errs, err)
	for _, port := range ports {
		if port != 22 {
			errs = append(errs, fmt.Errorf("%s: port %d is open", host, port))
		}
	}
	for _, dir := range []string{"/srv", "/tmp", "/var/tmp", "/dev/shm", "/run"} {
		errs = append(errs, r.staged(host, dir))
	}
	for _, dir := range []string{"/var/lib/transferpy", "/root/.cache", "/home/op/.cache"} {
		errs = append(errs, r.state(host, dir))
	}
	return errors.Join(errs...)
}

// staged finds what is named as only transferpy names things.
func (r *rig) staged(host, dir string) error {
	var errs []error
	root := r.path(host, dir)
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".transferpy-") && idForm.MatchString(d.Name()) || strings.HasPrefix(d.Name(), "transferpy") {
			errs = append(errs, fmt.Errorf("%s: %s%s is left", host, dir, strings.TrimPrefix(path, root)))
		}
		return nil
	})
	return errors.Join(errs...)
}

// state finds files below a state directory that are no agent's program and,
// on the control host, no journal. Empty directories and empty files (locks)
// may stay.
func (r *rig) state(host, dir string) error {
	var errs []error
	root := r.path(host, dir)
	filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		rel := strings.TrimPrefix(path, root)
		info, err := d.Info()
		switch {
		case err != nil:
		case info.Mode().IsRegular() && info.Size() == 0:
		case info.Mode().IsRegular() && info.Mode()&0o111 != 0 && isProgram(path):
		case host == lab.Control && strings.HasPrefix(rel, "/control/"):
		case (strings.HasPrefix(rel, "/results/") || strings.HasPrefix(rel, "/transferpy/results/")) && info.Size() < 64<<10: // how agents that have published have ended, for a week
		default:
			errs = append(errs, fmt.Errorf("%s: %s%s (%v) is left", host, dir, rel, info.Mode()))
		}
		return nil
	})
	return errors.Join(errs...)
}

func isProgram(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = f.Read(magic)
	return err == nil && string(magic) == "\x7fELF"
}
