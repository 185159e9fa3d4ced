package main

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/test/lab"
)

// packages are Debian's names of the packages that have the peers' programs.
var packages = map[string]string{
	"tar": "tar", "nc": "netcat-openbsd", "zstd": "zstd", "ssh": "openssh-client", "rsync": "rsync",
	"pigz": "pigz", "openssl": "openssl", "b3sum": "b3sum", "mariadbd": "mariadb-server",
	"mariadb-install-db": "mariadb-server", "mariadb": "mariadb-client", "tc": "iproute2", "find": "findutils",
}

// needs says all that is missing for the cases, and how to get it.
func needs(chosen []testCase) error {
	if err := lab.Available(); err != nil {
		return err
	}
	wanted := map[string]bool{"tar": true, "find": true}
	for _, c := range chosen {
		if c.data.kind == innodb {
			wanted["mariadbd"], wanted["mariadb"], wanted["mariadb-install-db"] = true, true, true
		}
		if c.cap != "" {
			wanted["tc"] = true
		}
		for _, p := range c.contenders {
			for _, tool := range p.tools {
				wanted[tool] = true
			}
		}
	}
	var missing, install []string
	for tool := range wanted {
		if _, err := exec.LookPath(tool); err != nil {
			missing, install = append(missing, tool), append(install, packages[tool])
		}
	}
	if len(missing) == 0 {
		return version(wanted["nc"])
	}
	slices.Sort(missing)
	slices.Sort(install)
	return fmt.Errorf("missing: %s; install: apt-get install --no-install-recommends %s",
		strings.Join(missing, ", "), strings.Join(slices.Compact(install), " "))
}

// version makes sure that nc is OpenBSD's: others take no -N.
func version(wanted bool) error {
	if !wanted {
		return nil
	}
	out, _ := exec.Command("nc", "-h").CombinedOutput() // it ends with 1 in some versions
	if !strings.Contains(string(out), "OpenBSD") {
		return errors.New("nc is not OpenBSD's; install: apt-get install netcat-openbsd")
	}
	return nil
}
