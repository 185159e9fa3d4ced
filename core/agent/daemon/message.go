package daemon

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// readRequest reads the request from stdin or from its file, and checks that
// it is for the verb of the command line.
func readRequest(state *state, inv *invocation, stdin io.Reader) (*control.Request, error) {
	if inv.message != "" {
		data, err := readMessage(state, inv.message, inv.digest)
		if err != nil {
			return nil, err
		}
		stdin = bytes.NewReader(data)
	}
	q, err := control.DecodeRequest(stdin)
	if err != nil {
		return nil, err
	}
	if string(q.Verb) != inv.verb {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("the command is %s, its request %s", inv.verb, q.Verb)}
	}
	return q, nil
}

// readMessage reads and deletes a file of the in directory. The digest, which
// came by the command, says that it is the controller's.
func readMessage(state *state, path, digest string) ([]byte, error) {
	in := state.sub(inDir)
	name := filepath.Base(path)
	if filepath.Dir(path) != in || name == ".." || name == "." {
		return nil, &sdk.Error{Kind: sdk.KindConfig, Message: fmt.Sprintf("message %q is not in %s", path, in)}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("message %s: %w", path, err)
	}
	if err := private(&st, unix.S_IFREG); err != nil {
		return nil, &sdk.Error{Kind: sdk.KindPermission, Message: fmt.Sprintf("message %s: %v", path, err)}
	}
	data, err := io.ReadAll(io.LimitReader(file, control.MaxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("message %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("message %s: %w", path, err)
	}
	sum := sha256.Sum256(data)
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(digest)) != 1 {
		return nil, &sdk.Error{Kind: sdk.KindIntegrity, Message: fmt.Sprintf("message %s is not the one that was announced", path), Hint: "it was removed; send it again"}
	}
	return data, nil
}
