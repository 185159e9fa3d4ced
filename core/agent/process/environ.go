package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/sdk"
)

// standardDirs are searched after the agent's own PATH: what an executor
// hands down often lacks the sbin directories.
var standardDirs = []string{
	"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin",
}

// searchDirs are the directories in which commands are looked up. Relative
// ones are left out: they would mean another place in every directory.
func searchDirs() []string {
	var dirs []string
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), standardDirs...) {
		if filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// environ is the environment of every command: nothing of the agent's own
// but its PATH, and a locale in which tools speak as their parsers expect.
func environ(who *account) []string {
	return []string{
		"PATH=" + strings.Join(searchDirs(), ":"),
		"HOME=" + who.home,
		"USER=" + who.name,
		"LOGNAME=" + who.name,
		"SHELL=/bin/sh",
		"LC_ALL=C",
	}
}

// lookUp finds a command as a shell does. The error's code is the shell's:
// 127 for a command that is not there, 126 for one that cannot be run.
func lookUp(name string) (string, *startError) {
	if name == "" {
		return "", &startError{127, "", errors.New("the command has no name")}
	}
	if strings.ContainsRune(name, '/') {
		return name, nil // starting it tells what is wrong with it
	}
	var denied string
	for _, dir := range searchDirs() {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil || info.IsDir() {
			continue
		}
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
		denied = path
	}
	if denied != "" {
		return "", &startError{126, name, fmt.Errorf("%s cannot be executed", sdk.Raw(denied).Display())}
	}
	return "", &startError{127, name, fmt.Errorf("not found in %s", strings.Join(searchDirs(), ":"))}
}

// startError is why a command did not start, with the exit code that a shell
// would give it.
type startError struct {
	code int
	name string
	err  error
}

func (e *startError) Error() string {
	return fmt.Sprintf("%s: %v", sdk.Raw(e.name).Display(), e.err)
}

// newStartError sorts what exec returned.
func newStartError(name string, err error) *startError {
	code := 126
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		code = 127
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return &startError{code, name, err}
}

// asError is the same for a command of the data plane, where nobody reads
// exit codes.
func (e *startError) asError() *sdk.Error {
	if e.code == 127 {
		return &sdk.Error{Kind: sdk.KindMissingTool, Message: e.Error(), Hint: "install it, or name it by its path"}
	}
	return &sdk.Error{Kind: sdk.KindPermission, Message: e.Error()}
}
