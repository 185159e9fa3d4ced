package tree

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/transferpy/transferpy/core/agent/manifest"
)

// Bounds of what one worker is handed at once.
const (
	batchEntries = 256
	batchBytes   = 1 << 20
)

// item is an entry with its number and its digest.
type item struct {
	n uint64
	e manifest.Entry
	d manifest.Digest
}

// each calls work for every entry of the spool that want chooses, in several
// goroutines and in no order, and waits for them. It stops at the first error.
func each(ctx context.Context, spool *manifest.Spool, want func(*manifest.Entry) bool, work func(*item) error) error {
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan []item, 2)
	for range runtime.GOMAXPROCS(0) + 1 {
		group.Go(func() error {
			for batch := range batches {
				for i := range batch {
					if err := work(&batch[i]); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(batches)
		return deal(ctx, spool, want, batches)
	})
	return group.Wait()
}

// deal puts the chosen entries into batches.
func deal(ctx context.Context, spool *manifest.Spool, want func(*manifest.Entry) bool, batches chan<- []item) error {
	var batch []item
	size := 0
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case batches <- batch:
			batch, size = make([]item, 0, batchEntries), 0
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := spool.Each(ctx, func(n uint64, e manifest.Entry, d manifest.Digest) error {
		if !want(&e) {
			return nil
		}
		batch = append(batch, item{n, e, d})
		size += len(e.Path)
		for i := range e.Xattrs {
			size += e.Xattrs[i].EncodedLen()
		}
		if len(batch) < batchEntries && size < batchBytes {
			return nil
		}
		return send()
	})
	if err != nil {
		return err
	}
	return send()
}
