package unpack

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/sdk"
)

// maxDepth bounds how deep an archive's directories lie: the ledger is read
// once for each depth when they get their attributes.
const maxDepth = 512

// atOnce is how many entries get their attributes at the same time.
const atOnce = 4

// Finish gives everything its owner, mode, attributes and times, once all is
// written and was read back: files first, then directories from the deepest
// up, since a directory's mode may shut out even its owner. Finish is called
// once.
func (u *Unpacker) Finish(ctx context.Context) error {
	var directories [maxDepth]bool // whether there are any so deep
	group := new(errgroup.Group)
	group.SetLimit(atOnce)
	err := u.ledger.each(ctx, func(r *written) error {
		if r.entry.Type == sdk.FileDirectory {
			depth := depthOf(r.entry.Path)
			if depth >= maxDepth {
				return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("the archive's directories lie deeper than %d levels", maxDepth)}
			}
			directories[depth] = true
			return nil
		}
		group.Go(func() error { return u.disk.FinishEntry(&r.entry) })
		return nil
	})
	if werr := group.Wait(); err == nil {
		err = werr
	}
	for depth := maxDepth - 1; depth >= 0 && err == nil; depth-- {
		if directories[depth] {
			err = u.finishDirectories(ctx, depth)
		}
	}
	return err
}

// finishDirectories does those of one depth. One that the archive tells of
// twice gets what it said last.
func (u *Unpacker) finishDirectories(ctx context.Context, depth int) error {
	return u.ledger.each(ctx, func(r *written) error {
		if r.entry.Type != sdk.FileDirectory || depthOf(r.entry.Path) != depth {
			return nil
		}
		return u.disk.FinishEntry(&r.entry)
	})
}

func depthOf(path sdk.Raw) int { return strings.Count(string(path), "/") }
