package ssh

import (
	"context"
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

// Put implements sdk.Putter. The file is not flushed to the disk. A transfer
// that is cut short is removed by the host itself, one that takes longer than
// 60 s (and 1 s a MiB) through a second call.
func (e *executor) Put(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) error {
	p := string(file.Path)
	if !path.IsAbs(p) || file.Mode&^0o777 != 0 {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "a file to be placed needs an absolute path and a mode of permission bits: " + file.Path.Display()}
	}
	content := file.Content
	if content == nil {
		content = []byte{}
	}
	argv := []sdk.Raw{"sh", "-c", putScript, "sh", file.Path, sdk.Raw(strconv.Itoa(len(content))), sdk.Raw(fmt.Sprintf("%04o", file.Mode))}
	write, err := newJob(sdk.Command{Argv: argv, Stdin: content, Timeout: maxWait + time.Duration(len(content)>>20)*time.Second}, e.opts.sudo)
	if err != nil {
		return err
	}
	remove, err := newJob(sdk.Command{Argv: []sdk.Raw{"rm", "-f", "--", file.Path}, Timeout: killWait}, e.opts.sudo)
	if err != nil {
		return err
	}
	sdk.EachHost(ctx, hosts, hostsAtOnce, func(ctx context.Context, host string) sdk.Result {
		r := e.pool.run(ctx, host, write)
		switch {
		case r.Err != nil && strings.HasPrefix(string(r.Stdout), "created"):
			// Killed half-way: what lies there is ours.
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), killWait)
			defer cancel()
			e.pool.run(undo, host, remove)
		case r.Err == nil && r.ExitCode != 0:
			r.Err = putError(host, file.Path, string(r.Stdout), string(r.Stderr))
		}
		return sdk.Result{Host: host, ExitCode: r.ExitCode, Err: r.Err}
	}, emit)
	return nil
}

// putError reads the reason from what the shell and its tools said.
func putError(host string, file sdk.Raw, stdout, stderr string) *sdk.Error {
	e := &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "cannot write " + file.Display(), Stderr: stderr}
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
