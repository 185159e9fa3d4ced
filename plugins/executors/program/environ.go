package program

import (
	"os"
	"strings"
)

// Environ is this process's environment without the variables of these
// names, and with the given ones (NAME=VALUE) instead or besides.
func Environ(without []string, with ...string) []string {
	drop := map[string]bool{}
	for _, name := range without {
		drop[name] = true
	}
	for _, pair := range with {
		name, _, _ := strings.Cut(pair, "=")
		drop[name] = true
	}
	var env []string
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); !drop[name] {
			env = append(env, pair)
		}
	}
	return append(env, with...)
}
