package fields

import (
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/transferpy/transferpy/sdk"
)

// howSecret is the advice for a secret that was given wrongly.
const howSecret = "write @FILE (a file that is closed to others, mode 0600) or $NAME (an environment variable), never the secret itself"

// readSecret resolves @FILE or $NAME. Neither problem nor hint ever holds
// what was given literally, since that may be the secret.
func readSecret(f sdk.Field, raw string) (secret, problem, hint string) {
	switch {
	case len(raw) > 1 && raw[0] == '@':
		return readSecretFile(raw[1:])
	case len(raw) > 1 && raw[0] == '$':
		name := raw[1:]
		if strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return "", "it is a secret, and what stands there is no name of a variable", howSecret
		}
		value, ok := os.LookupEnv(name)
		if !ok || value == "" {
			return "", fmt.Sprintf("the environment variable %s is not set", name), "set it, or use @FILE"
		}
		return value, "", ""
	}
	return "", "it is a secret and stands in the open", howSecret
}

// readSecretFile reads a regular file that belongs to root or the caller and
// is closed to others; the group may read it. One newline at its end is not
// part of the secret.
func readSecretFile(path string) (secret, problem, hint string) {
	// Not blocking, so that a fifo is seen as what it is.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", "the secret's file cannot be opened: " + err.Error(), "make sure that it exists and that you may read it"
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", "the secret's file: " + err.Error(), ""
	}
	stat, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return "", path + " is no regular file", howSecret
	case stat != nil && stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return "", fmt.Sprintf("%s belongs to user %d, neither to root nor to you", path, stat.Uid), "chown it"
	case info.Mode().Perm()&0o037 != 0:
		return "", fmt.Sprintf("%s has mode %04o: it is open to others", path, info.Mode().Perm()), "chmod 0600 " + path
	}
	content, err := io.ReadAll(io.LimitReader(file, maxValue+1))
	switch {
	case err != nil:
		return "", "the secret's file: " + err.Error(), ""
	case len(content) > maxValue:
		return "", fmt.Sprintf("%s is larger than %d bytes", path, maxValue), ""
	case len(content) == 0:
		return "", path + " is empty", ""
	}
	secret = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	return secret, "", ""
}
