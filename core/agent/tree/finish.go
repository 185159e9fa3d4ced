package tree

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Finish gives all entries their owner, extended attributes, mode, ACLs and
// times, in this order, once all data is written; hard links get theirs by
// the first of them. Several goroutines do the files, then the directories:
// each when all below it have theirs, since from then on its mode may shut
// out even its owner. What rights or the file system do not allow is left out
// with a warning. Finish is called once.
func (k *Sink) Finish(ctx context.Context, spool *manifest.Spool) error {
	directories := false // written by the one goroutine that deals
	err := each(ctx, spool, func(e *manifest.Entry) bool {
		directories = directories || e.Type == sdk.FileDirectory
		return e.Type != sdk.FileDirectory && (e.HardLink == 0 || k.Apart())
	}, func(it *item) error {
		if it.e.HardLink == 0 {
			return k.finish(&it.e)
		}
		return k.finishApart(spool, &it.e)
	})
	if err != nil || !directories {
		return err
	}
	return k.finishDirectories(ctx, spool)
}

// finishApart gives a hard link that became a file of its own what the first
// has; one that was made has it already.
func (k *Sink) finishApart(spool *manifest.Spool, e *manifest.Entry) error {
	first, err := spool.Entry(e.HardLink - 1)
	if err != nil {
		return err
	}
	if same, err := k.linked(e, &first); same || err != nil {
		return diskerr.New("cannot look at", k.full(e.Path), err)
	}
	first.Path = e.Path
	return k.finish(&first)
}

// directories finishes directories, the deepest first.
type directories struct {
	k     *Sink
	spool *manifest.Spool
	group errgroup.Group  // of directories that none of the others lies in
	open  []openDirectory // on the path to the current entry
}

// openDirectory is a directory on the path to the current entry.
type openDirectory struct {
	n       uint64
	pathLen int
	parent  bool // of a directory
}

// atOnce is how many directories are finished at the same time.
const atOnce = 4

// finishDirectories walks the entries once more. They come in walk order, so
// the directories that are not left yet are those on the path to the current
// entry: their numbers are all that has to be remembered.
func (k *Sink) finishDirectories(ctx context.Context, spool *manifest.Spool) error {
	d := directories{k: k, spool: spool}
	d.group.SetLimit(atOnce)
	err := spool.Each(ctx, func(n uint64, e manifest.Entry, _ manifest.Digest) error {
		if err := d.leave(string(e.Path)); err != nil || e.Type != sdk.FileDirectory {
			return err
		}
		if len(d.open) > 0 {
			d.open[len(d.open)-1].parent = true
		}
		d.open = append(d.open, openDirectory{n: n, pathLen: len(e.Path)})
		return nil
	})
	if err == nil {
		err = d.leave("")
	}
	if err2 := d.group.Wait(); err == nil {
		err = err2
	}
	return err
}

// leave finishes the directories that path does not lie in.
func (d *directories) leave(path string) error {
	for len(d.open) > 0 && !below(path, d.open[len(d.open)-1]) {
		last := d.open[len(d.open)-1]
		d.open = d.open[:len(d.open)-1]
		if last.parent {
			// All below it went before, and no other may hold it up later.
			if err := d.group.Wait(); err != nil {
				return err
			}
		}
		d.group.Go(func() error {
			e, err := d.spool.Entry(last.n)
			if err != nil {
				return err
			}
			return d.k.finish(&e)
		})
	}
	return nil
}

// below reports whether path lies below d. In walk order a path that is long
// enough to do so and still has its separator there does: whatever stands
// beside d closes d first, and a name as long as d's own ends there.
func below(path string, d openDirectory) bool {
	return len(path) > d.pathLen && path[d.pathLen] == '/'
}
