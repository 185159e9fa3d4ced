package facts

import (
	"context"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/staging"
	"github.com/transferpy/transferpy/sdk"
)

// discountStaged answers for the directory fd as if what a transfer that is
// to be resumed has staged there were not: it is written in place again, so
// its blocks and inodes are free for that transfer and for nobody else.
func discountStaged(ctx context.Context, fd int, transfer string, f *sdk.PathFacts) error {
	dir, err := openDir(fd, ".")
	if err != nil {
		return err
	}
	defer dir.Close()
	mine, others := staging.Family(transfer), false
	for {
		names, err := dir.Readdirnames(batch)
		for _, name := range names {
			switch {
			case strings.HasPrefix(name, mine) && staged(ctx, fd, name, f):
			case name != lostFound:
				others = true
			default:
				empty, err := emptyLostFound(fd)
				others = others || err != nil || !empty
			}
		}
		if isEOF(err) || ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
	}
	f.Empty = ctx.Err() == nil && !others
	return nil
}

// staged adds what a staging directory takes up to what is free. It reports
// whether it is one of this user's; another's does not count.
func staged(ctx context.Context, fd int, name string, f *sdk.PathFacts) bool {
	dir, err := openDir(fd, name)
	if err != nil {
		return false
	}
	defer dir.Close()
	var st unix.Stat_t
	if unix.Fstat(int(dir.Fd()), &st) != nil || int(st.Uid) != os.Geteuid() {
		return false
	}
	var taken sdk.PathFacts
	c := &counter{ctx: ctx, facts: &taken, links: map[fileID]struct{}{}, size: allocated}
	c.add(&st)
	if sub, err := openDir(int(dir.Fd()), "."); err == nil {
		c.walk(sub, 1)
	}
	f.FreeBytes += taken.Bytes
	if f.FreeInodes >= 0 {
		f.FreeInodes += taken.Entries
	}
	return true
}

// allocated is what a file takes up on its disk: less than its length where
// it has holes, more where space was set aside for it.
func allocated(st *unix.Stat_t) int64 { return st.Blocks * 512 }
