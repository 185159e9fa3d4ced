package remote

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// putTime bounds one placing of a file: an agent over a slow line.
const putTime = 5 * time.Minute

// existsCode is the exit code of appendScript where the file was there.
const existsCode = 17

// put writes a file on hosts, each in a new file of the same path, and
// returns the error of each host where it failed.
func (e *engine) put(ctx context.Context, hosts []string, file sdk.File) map[string]*sdk.Error {
	if putter, ok := e.exec.(sdk.Putter); ok && e.traits.CanPut {
		return failures(file.Path, e.each(ctx, hosts, putTime, func(ctx context.Context, hosts []string, emit func(sdk.Result)) error {
			return putter.Put(ctx, hosts, file, emit)
		}))
	}
	return e.putPieces(ctx, hosts, file)
}

// putPieces sends a file through Run, piece by piece on standard input. A
// host that fails is left out of the further pieces.
func (e *engine) putPieces(ctx context.Context, hosts []string, file sdk.File) map[string]*sdk.Error {
	failed := map[string]*sdk.Error{}
	for at := 0; at == 0 || at < len(file.Content); at += e.traits.MaxStdin {
		piece := file.Content[at:min(at+e.traits.MaxStdin, len(file.Content))]
		cmd := sdk.Command{
			Argv:  []sdk.Raw{"sh", "-c", appendScript, "transferpy", file.Path, sdk.Raw(strconv.Itoa(at)), sdk.Raw(fmt.Sprintf("%o", file.Mode))},
			Stdin: piece,
		}
		for host, err := range failures(file.Path, e.run(ctx, hosts, cmd)) {
			failed[host] = err
		}
		var left []string
		for _, h := range hosts {
			if failed[h] == nil {
				left = append(left, h)
			}
		}
		if hosts = left; len(hosts) == 0 {
			break
		}
	}
	return failed
}

// failures picks the hosts on which a file could not be written.
func failures(path sdk.Raw, results map[string]sdk.Result) map[string]*sdk.Error {
	failed := map[string]*sdk.Error{}
	for host, res := range results {
		switch {
		case res.Err != nil:
			failed[host] = res.Err
		case res.ExitCode == existsCode:
			failed[host] = &sdk.Error{Kind: sdk.KindExists, Host: host, Message: path.Display() + " exists already"}
		case res.ExitCode != 0:
			failed[host] = &sdk.Error{Kind: sdk.KindInternal, Host: host, Stderr: tail(res.Stderr),
				Message: fmt.Sprintf("%s could not be written (exit code %d)", path.Display(), res.ExitCode),
				Hint:    "see whether the file system is full or read-only"}
		}
	}
	return failed
}

// putNew writes content into a new file in dir on each host, under a random
// name. Two names may lead to one host, where the second finds the file of
// the first: it gets one of its own. byPath tells which hosts have which
// path.
func (e *engine) putNew(ctx context.Context, hosts []string, dir sdk.Raw, prefix string, content []byte) (byPath map[sdk.Raw][]string, failed map[string]*sdk.Error) {
	byPath, failed = map[sdk.Raw][]string{}, map[string]*sdk.Error{}
	for range maxNames {
		path := dir + "/" + sdk.Raw(prefix+control.NewID())
		errs := e.put(ctx, hosts, sdk.File{Path: path, Mode: 0o600, Content: content})
		var again []string
		for _, h := range hosts {
			switch err := errs[h]; {
			case err == nil:
				byPath[path] = append(byPath[path], h)
				delete(failed, h)
			default:
				failed[h] = err
				if err.Kind == sdk.KindExists {
					again = append(again, h)
				}
			}
		}
		if hosts = again; len(hosts) == 0 {
			break
		}
	}
	return byPath, failed
}

// withdrawTime bounds the removal of what an ended call may have left.
const withdrawTime = 10 * time.Second

// withdraw removes files that were put and whose reader may have been killed
// with the call: when ctx has ended, nobody else will for an hour.
func (e *engine) withdraw(ctx context.Context, byPath map[sdk.Raw][]string) {
	if ctx.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer cancel()
	for file, hosts := range byPath {
		e.run(ctx, hosts, sdk.Command{Argv: []sdk.Raw{"rm", "-f", file, file + ".new"}})
	}
}

// maxNames is how many names of one host are expected at most.
const maxNames = 8
