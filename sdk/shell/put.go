package shell

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// putScript writes stdin to a new file "$1" of $2 bytes with the mode $3.
// With noclobber sh creates by O_EXCL; the tests before it are for what is no
// regular file, which noclobber would open. From "created" on the file is
// ours to remove. A connection that is cut looks like the end of the input:
// hence the size.
const putScript = `export LC_ALL=C
if [ -e "$1" ]||[ -L "$1" ];then echo taken;exit 1;fi
set -C
umask 077
exec 3>"$1"||exit 1
echo created
head -c "$2" >&3&&[ "$(wc -c <"$1")" -eq "$2" ]&&chmod "$3" "$1"&&exit 0
rm -f "$1"
exit 1`

// PutCommand returns the command that does the work of sdk.Putter on a host,
// for a backend that can feed a command's stdin: it writes file as new, with
// its mode, and removes it again when it fails or its input is cut short. The
// file is not flushed to the disk. The time limit grows with the content, by
// a second a MiB. A file without absolute path, or with more than permission
// bits, is an error of KindConfig.
func PutCommand(file sdk.File, limit time.Duration) (sdk.Command, error) {
	p := string(file.Path)
	if !path.IsAbs(p) || file.Mode&^0o777 != 0 {
		return sdk.Command{}, &sdk.Error{Kind: sdk.KindConfig, Message: "a file to be placed needs an absolute path and a mode of permission bits: " + file.Path.Display()}
	}
	content := file.Content
	if content == nil {
		content = []byte{}
	}
	return sdk.Command{
		Argv:    []sdk.Raw{"sh", "-c", putScript, "sh", file.Path, sdk.Raw(strconv.Itoa(len(content))), sdk.Raw(fmt.Sprintf("%04o", file.Mode))},
		Stdin:   content,
		Timeout: limit + time.Duration(len(content)>>20)*time.Second,
	}, nil
}

// PutResult turns what the command of PutCommand did into the result of a
// Put: its reason as an error. half says that a part of the file may lie on
// the host, since the command was killed or its end is not known: the caller
// removes it.
func PutResult(file sdk.Raw, r sdk.Result) (result sdk.Result, half bool) {
	result = sdk.Result{Host: r.Host, ExitCode: r.ExitCode, Err: r.Err}
	if r.Err != nil {
		return result, strings.HasPrefix(string(r.Stdout), "created")
	}
	if r.ExitCode != 0 {
		result.Err = putError(r.Host, file, string(r.Stdout), string(r.Stderr))
	}
	return result, false
}

// putError reads the reason from what the shell and its tools said.
func putError(host string, file sdk.Raw, stdout, stderr string) *sdk.Error {
	e := &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "cannot write " + file.Display(), Stderr: string(tail([]byte(stderr), noiseShown))}
	has := func(text string) bool { return strings.Contains(stderr, text) }
	switch {
	case strings.Contains(stdout, "taken"), has("File exists"), has("cannot overwrite existing file"):
		e.Kind, e.Message, e.Hint = sdk.KindExists, file.Display()+" is there already", "nothing was overwritten"
	case has("No space left"), has("quota exceeded"):
		e.Kind, e.Message, e.Hint = sdk.KindNoSpace, "no space left for "+file.Display(), "free some space there"
	case has("Permission denied"), has("Read-only file system"), has("not permitted"):
		e.Kind, e.Message, e.Hint = sdk.KindPermission, "no permission to write "+file.Display(), "log in as a user who may, or use the option sudo"
	case has("nonexistent"), has("No such file"), has("Not a directory"):
		e.Kind, e.Message, e.Hint = sdk.KindNotFound, "the directory of "+file.Display()+" does not exist", "make it first"
	}
	return e
}
