package remote

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// putTime bounds one placing of a file: an agent over a slow line.
const putTime = 5 * time.Minute

// existsCode is the exit code of appendScript where the file was there.
const existsCode = 17

// put writes a file on hosts, each in a new file of the same path. done gets
// an error, or nil, for each host, in batches as of each.
func (e *engine) put(ctx context.Context, hosts []string, file sdk.File, done func(map[string]*sdk.Error)) {
	putter, ok := e.exec.(sdk.Putter)
	if !ok || !e.traits.CanPut {
		e.putPieces(ctx, hosts, file, 0, done)
		return
	}
	e.each(ctx, hosts, putTime, func(ctx context.Context, hosts []string, emit func(sdk.Result)) error {
		return putter.Put(ctx, hosts, file, emit)
	}, func(results map[string]sdk.Result) { done(written(file.Path, results)) })
}

// putPieces sends a file from offset at on through Run, piece by piece on
// standard input. A host that fails is left out of the further pieces.
func (e *engine) putPieces(ctx context.Context, hosts []string, file sdk.File, at int, done func(map[string]*sdk.Error)) {
	next := min(at+e.traits.MaxStdin, len(file.Content))
	cmd := sdk.Command{
		Argv:  []sdk.Raw{"sh", "-c", appendScript, "transferpy", file.Path, sdk.Raw(strconv.Itoa(at)), sdk.Raw(fmt.Sprintf("%o", file.Mode))},
		Stdin: file.Content[at:next],
	}
	e.stream(ctx, hosts, cmd, func(results map[string]sdk.Result) {
		errs := written(file.Path, results)
		if next == len(file.Content) {
			done(errs)
			return
		}
		var left []string
		for h, err := range errs {
			if err == nil {
				left = append(left, h)
				delete(errs, h)
			}
		}
		done(errs)
		if len(left) > 0 {
			slices.Sort(left)
			e.putPieces(ctx, left, file, next, done)
		}
	})
}

// written tells for each host whether a file, or a piece of it, was written.
func written(path sdk.Raw, results map[string]sdk.Result) map[string]*sdk.Error {
	errs := make(map[string]*sdk.Error, len(results))
	for host, res := range results {
		switch {
		case res.Err != nil:
			errs[host] = res.Err
		case res.ExitCode == existsCode:
			errs[host] = &sdk.Error{Kind: sdk.KindExists, Host: host, Message: path.Display() + " exists already"}
		case res.ExitCode != 0:
			errs[host] = &sdk.Error{Kind: sdk.KindInternal, Host: host, Stderr: tail(res.Stderr),
				Message: fmt.Sprintf("%s could not be written (exit code %d)", path.Display(), res.ExitCode),
				Hint:    "see whether the file system is full or read-only"}
		default:
			errs[host] = nil
		}
	}
	return errs
}

// newFile is content for a new file in dir, under prefix and a random name.
type newFile struct {
	dir     sdk.Raw
	prefix  string
	content []byte
}

// putNew writes a new file on each host. Two names may lead to one host, where
// the second finds the file of the first: it gets one of its own. lies is told
// which hosts have which path, in batches as of each, failed what went wrong.
func (e *engine) putNew(ctx context.Context, hosts []string, file newFile, lies func(path sdk.Raw, hosts []string), failed func(host string, err *sdk.Error)) {
	e.putNamed(ctx, hosts, file, maxNames, lies, failed)
}

// putNamed is putNew with so many names to try.
func (e *engine) putNamed(ctx context.Context, hosts []string, file newFile, tries int, lies func(path sdk.Raw, hosts []string), failed func(host string, err *sdk.Error)) {
	path := file.dir + "/" + sdk.Raw(file.prefix+control.NewID())
	e.put(ctx, hosts, sdk.File{Path: path, Mode: 0o600, Content: file.content}, func(errs map[string]*sdk.Error) {
		var there, again []string
		for h, err := range errs {
			switch {
			case err == nil:
				there = append(there, h)
			case err.Kind == sdk.KindExists && tries > 1:
				again = append(again, h)
			default:
				failed(h, err)
			}
		}
		if len(there) > 0 {
			slices.Sort(there)
			lies(path, there)
		}
		if len(again) > 0 {
			slices.Sort(again)
			e.putNamed(ctx, again, file, tries-1, lies, failed)
		}
	})
}

// withdrawTime bounds the removal of what an ended call may have left.
const withdrawTime = 10 * time.Second

// withdraw removes files that were put and whose reader may have been killed
// with the call: when ctx has ended, nobody else will for an hour.
func (e *engine) withdraw(ctx context.Context, file sdk.Raw, hosts []string) {
	if ctx.Err() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTime)
	defer cancel()
	e.run(ctx, hosts, sdk.Command{Argv: []sdk.Raw{"rm", "-f", file, file + ".new"}})
}

// maxNames is how many names of one host are expected at most.
const maxNames = 8
