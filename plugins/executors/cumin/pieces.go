package cumin

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

const (
	// pieceSize is what one call carries of a file: base64 twice, with the
	// script, it fits into one argument.
	pieceSize = 60 << 10
	pieceTime = 30 * time.Second
)

// pieceScript appends stdin to the file "$1", which must end at "$2"; at 0 it
// is made, as new.
const pieceScript = `export LC_ALL=C
umask 077
if [ "$2" = 0 ];then set -C;(:>"$1")||exit 1;set +C;fi
[ "$(wc -c <"$1")" -eq "$2" ]||{ echo "$1 does not end at $2" >&2;exit 1;}
cat >>"$1"`

// joinScript makes the new file "$1" of the part "$2", unpacked by the command
// "$3", with "$4" bytes and the mode "$5".
const joinScript = `export LC_ALL=C
if [ -e "$1" ]||[ -L "$1" ];then echo taken;rm -f "$2";exit 1;fi
set -C
umask 077
exec 3>"$1"||exit 1
$3 <"$2" >&3&&[ "$(wc -c <"$1")" -eq "$4" ]&&chmod "$5" "$1"&&rm -f "$2"&&exit 0
rm -f "$1" "$2"
exit 1`

// putPieces places a file through Run, each piece on all hosts in one call,
// packed where that makes it smaller. It gives each host one result.
func (e *executor) putPieces(ctx context.Context, hosts []string, file sdk.File, emit func(sdk.Result)) {
	if len(hosts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, mostPieces)
	defer cancel()
	data, unpack := pack(file.Content)
	part := file.Path + sdk.Raw(".part-"+shell.NewNonce())
	begun := map[string]bool{} // hosts on which the part is ours
	step := func(hosts []string, cmd sdk.Command) []string {
		var mu sync.Mutex
		var well, ill []string
		err := e.Run(ctx, hosts, cmd, func(r sdk.Result) {
			r, _ = shell.PutResult(file.Path, r)
			mu.Lock()
			defer mu.Unlock()
			if r.Err == nil {
				well, begun[r.Host] = append(well, r.Host), true
				return
			}
			if begun[r.Host] {
				ill = append(ill, r.Host)
			}
			emit(sdk.Result{Host: r.Host, ExitCode: r.ExitCode, Err: r.Err})
		})
		if err != nil {
			for _, h := range hosts {
				emit(sdk.Result{Host: h, Err: sdk.AsError(err)})
			}
			return nil
		}
		e.remove(ctx, ill, part)
		return well
	}
	for at := 0; len(hosts) > 0 && (at == 0 || at < len(data)); at += pieceSize {
		piece := data[at:min(at+pieceSize, len(data))]
		hosts = step(hosts, sdk.Command{Argv: []sdk.Raw{"sh", "-c", pieceScript, "sh", part, sdk.Raw(strconv.Itoa(at))}, Stdin: piece, Timeout: pieceTime})
	}
	joined := step(hosts, sdk.Command{Timeout: pieceTime + time.Duration(len(file.Content)>>20)*time.Second,
		Argv: []sdk.Raw{"sh", "-c", joinScript, "sh", file.Path, part, unpack, sdk.Raw(strconv.Itoa(len(file.Content))), sdk.Raw(fmt.Sprintf("%04o", file.Mode))}})
	for _, h := range joined {
		emit(sdk.Result{Host: h})
	}
}

// remove takes away parts of which the rest will not come. ctx may have ended.
func (e *executor) remove(ctx context.Context, hosts []string, part sdk.Raw) {
	if len(hosts) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pieceTime)
	defer cancel()
	e.Run(ctx, hosts, sdk.Command{Argv: []sdk.Raw{"rm", "-f", "--", part}, Timeout: 10 * time.Second}, func(sdk.Result) {})
}

// pack compresses content where that saves a tenth; unpack is the command
// that reads it.
func pack(content []byte) (data []byte, unpack sdk.Raw) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(content) // into memory: it cannot fail
	w.Close()
	if b.Len() < len(content)-len(content)/10 {
		return b.Bytes(), "gzip -dc"
	}
	return append([]byte{}, content...), "cat" // never nil, which would be no stdin
}
