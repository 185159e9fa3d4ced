package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/transferpy/transferpy/sdk"
)

// maxProgram bounds the size of a plugin's file whose digest is taken.
const maxProgram = 1 << 30

// openVerified opens a plugin's file and returns it if nobody but root and
// the caller could have written it, or could put another in its place. A link
// is followed; the file that it leads to and the way to the link are held to
// the same. pin, where not empty, is the only digest that is let in. The
// caller closes the file, and starts that descriptor: what was verified is
// what runs.
func openVerified(path, pin string) (*os.File, error) {
	if !filepath.IsAbs(path) {
		return nil, refuse("%s is no absolute path", path)
	}
	if err := verifyDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, refuse("%v", err)
	}
	if filepath.Dir(real) != filepath.Dir(path) {
		if err := verifyDir(filepath.Dir(real)); err != nil {
			return nil, err
		}
	}
	// Not blocking, so that a fifo is seen as what it is.
	file, err := os.OpenFile(real, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refuse("%v", err)
	}
	if err := verifyFile(file, real, pin); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// verifyFile checks the open file itself.
func verifyFile(file *os.File, path, pin string) error {
	info, err := file.Stat()
	if err != nil {
		return refuse("%v", err)
	}
	if !info.Mode().IsRegular() {
		return refuse("%s is no regular file", path)
	}
	if err := verifyOwner(info, path); err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return mend("chmod go-w "+path, "%s has mode %04o: others may write it", path, info.Mode().Perm())
	}
	if info.Mode().Perm()&0o111 == 0 {
		return mend("chmod +x "+path, "%s may not be executed", path)
	}
	if pin == "" {
		return nil
	}
	sum := sha256.New()
	if n, err := io.Copy(sum, io.NewSectionReader(file, 0, maxProgram+1)); err != nil {
		return refuse("%s: %v", path, err)
	} else if n > maxProgram {
		return refuse("%s is larger than %d bytes", path, maxProgram)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, strings.TrimSpace(pin)) {
		return mend("install the file that was pinned, or pin this one if you trust it",
			"%s has SHA-256 %s, but %s is pinned", path, got, strings.TrimSpace(pin))
	}
	return nil
}

// verifyDir checks a directory and all above it. Above it, a sticky directory
// of root's that all may write (/tmp) passes: there nobody can rename what
// belongs to another. The plugin directory itself gets no such exemption.
func verifyDir(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return refuse("%v", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return refuse("%v", err)
		}
		if err := verifyOwner(info, at); err != nil {
			return err
		}
		sticky := at != dir && info.Mode()&os.ModeSticky != 0 && ownedBy(info, 0)
		if info.Mode().Perm()&0o022 != 0 && !sticky {
			return mend("chmod go-w "+at, "the directory %s has mode %04o: others may write it", at, info.Mode().Perm())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// verifyOwner checks that a path belongs to root or to the caller.
func verifyOwner(info os.FileInfo, path string) error {
	if ownedBy(info, 0) || ownedBy(info, os.Geteuid()) {
		return nil
	}
	return mend("chown root "+path, "%s belongs neither to root nor to you", path)
}

func ownedBy(info os.FileInfo, uid int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == uid
}

func refuse(format string, args ...any) error { return mend("", format, args...) }

func mend(hint, format string, args ...any) error {
	return &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf(format, args...), Hint: hint}
}
