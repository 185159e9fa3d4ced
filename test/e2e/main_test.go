package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/transferpy/transferpy/test/lab"
)

// binDir is the directory with a copy of the binary under test; a copy, since
// somebody may build a new one while the tests run.
var binDir string

func TestMain(m *testing.M) {
	// Under nohup the transferpys that are tested would bear SIGHUP, too.
	if signal.Ignored(syscall.SIGHUP) {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	lab.Main()
	badDiskMain()
	strangerMain()
	code, err := withBinary(m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// withBinary finds or builds transferpy, copies it, and runs the tests.
func withBinary(run func() int) (int, error) {
	if lab.Available() != nil {
		return run(), nil // all tests skip themselves, with the reason
	}
	binary, err := findBinary()
	if err != nil {
		return 1, err
	}
	if binDir, err = os.MkdirTemp("", "transferpy-e2e-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(binDir)
	if err := os.Chmod(binDir, 0o755); err != nil { // the tests' other user needs it too
		return 1, err
	}
	if err := copyFile(binary, filepath.Join(binDir, "transferpy"), 0o755); err != nil {
		return 1, err
	}
	return run(), nil
}

// findBinary is $TRANSFERPY_BIN, else bin/transferpy, which is built if it is
// not there.
func findBinary() (string, error) {
	if path := os.Getenv("TRANSFERPY_BIN"); path != "" {
		return path, nil
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "bin", "transferpy")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	build := exec.Command("make", "-C", root, "build")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("make build: %w", err)
	}
	return path, nil
}

func copyFile(from, to string, mode os.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), os.Chmod(to, mode))
}

// buildExample builds the plugin KIND-NAME of examples/ as its author would,
// into the directory plugins beside the binary.
func buildExample(ctx context.Context, name string) error {
	dir := filepath.Join(binDir, "plugins")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, "transferpy-"+name), ".")
	build.Dir = filepath.Join("..", "..", "examples", name)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build examples/%s: %w: %s", name, err, out)
	}
	return nil
}
