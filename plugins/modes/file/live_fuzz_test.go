package file

import (
	"strings"
	"testing"
)

// FuzzLockHolder: the host's words decide about a refusal and nothing else: a
// holder is two words of what it said, or there is none.
func FuzzLockHolder(f *testing.F) {
	f.Add("file ibdata1 2f 8\n3: POSIX  ADVISORY  WRITE 652 00:2f:8 0 EOF\n", "ext4")
	f.Add("file x 0 0\n1: POSIX -> WRITE a ::0 b c\n", "btrfs")
	f.Fuzz(func(t *testing.T, output, fileSystem string) {
		name, pid := lockHolder(output, fileSystem)
		for _, word := range []string{name, pid} {
			if len(strings.Fields(word)) > 1 || !strings.Contains(output, word) {
				t.Fatalf("%q, %q of %q", name, pid, output)
			}
		}
		if (name == "") != (pid == "") {
			t.Fatalf("%q without %q", name, pid)
		}
	})
}
