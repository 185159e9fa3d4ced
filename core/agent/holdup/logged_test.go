package holdup

import (
	"testing"

	"github.com/transferpy/transferpy/core/agent/control"
)

// TestLogged holds the rule against what transfers of the lab have logged, in
// stretches of 5 s: 400 MB in one file to ext4 on a device that takes 5, 8 or 25
// MB/s at one of the targets, or with a link of 40 Mbit/s. The machine was busy
// with other things.
func TestLogged(t *testing.T) {
	type times = []*control.Times
	waits := share(99, 0, 0, 0, 0, 2, 0)     // all that a target did that lacks data
	writes := share(0, 0, 0, 99, 99, 399, 0) // and one that waits for its disk
	for name, c := range map[string]struct {
		spent times
		want  Cause
		at    int
	}{
		"the first disk of two":   {times{share(0, 100, 0, 0, 0, 0, 0), share(0, 0, 0, 100, 99, 400, 0), waits}, TargetDisk, 1},
		"the last disk of two":    {times{share(98, 1, 0, 0, 399, 0, 0), share(99, 99, 0, 0, 0, 0, 0), writes}, TargetDisk, 2},
		"the first disk of three": {times{share(0, 99, 0, 0, 0, 0, 0), writes, waits, waits}, TargetDisk, 1},
		"the middle disk of three": {times{share(0, 97, 1, 0, 0, 0, 0), share(99, 99, 0, 0, 99, 0, 0), share(0, 0, 0, 99, 99, 399, 0), waits},
			TargetDisk, 2},
		"that disk in the page cache's bursts": {times{share(0, 98, 0, 0, 0, 6, 3), share(99, 31, 0, 0, 92, 4, 7), share(0, 64, 0, 99, 49, 399, 0), share(76, 0, 0, 23, 0, 46, 3)},
			TargetDisk, 2},
		"a disk of 25 MB/s": {times{share(70, 24, 0, 0, 369, 23, 7), share(99, 99, 0, 0, 98, 4, 0), share(0, 1, 0, 99, 98, 398, 1), waits}, TargetDisk, 2},
		"the last disk of three": {times{share(0, 99, 0, 0, 0, 0, 1), share(99, 0, 0, 0, 99, 0, 0), share(100, 100, 0, 0, 0, 0, 0), share(0, 0, 0, 100, 100, 400, 0)},
			TargetDisk, 3},
		"the third disk of six": {times{share(0, 99, 0, 0, 0, 0, 0), share(99, 0, 0, 0, 99, 0, 0), share(99, 100, 0, 0, 0, 0, 0), writes, waits, waits, waits},
			TargetDisk, 3},
		"the last disk of six": {times{share(21, 78, 0, 0, 33, 0, 0), share(99, 99, 0, 0, 99, 1, 0), share(99, 0, 0, 0, 99, 2, 0), share(99, 99, 0, 0, 0, 1, 0),
			share(99, 0, 0, 0, 99, 1, 0), share(99, 99, 0, 0, 0, 0, 0), writes}, TargetDisk, 6},
		"the second link of three": {times{share(35, 64, 0, 0, 399, 0, 0), share(99, 99, 0, 0, 99, 0, 0), share(99, 44, 0, 0, 0, 0, 0), waits}, Link, 2},
		"the last link of three":   {times{share(0, 99, 0, 0, 0, 0, 0), share(99, 0, 0, 0, 99, 0, 0), share(99, 99, 0, 0, 0, 0, 0), waits}, Link, 3},

		// Nobody is slow.
		"the first link of three": {times{share(0, 99, 0, 0, 0, 0, 0), share(99, 55, 0, 0, 0, 0, 0), waits, waits}, Unknown, 0},
		"the buffers before the last disk of six still take what the source sends": {times{share(0, 80, 0, 0, 0, 54, 36), share(99, 42, 0, 0, 0, 7, 3), share(99, 1, 0, 0, 48, 3, 0),
			share(99, 93, 0, 0, 0, 1, 0), share(99, 0, 0, 0, 99, 0, 0), share(99, 99, 0, 0, 0, 0, 0), writes}, Unknown, 0},
		"an even chain on a busy machine": {times{share(10, 119, 0, 0, 0, 10, 87), share(62, 1, 0, 0, 0, 1, 1), share(62, 0, 0, 0, 0, 1, 0), waits}, Unknown, 0},
		"all has been sent":               {times{share(0, 299, 0, 0, 0, 0, 12), share(0, 0, 0, 0, 0, 0, 0), share(0, 0, 0, 0, 0, 0, 0)}, Unknown, 0},
	} {
		if got, at := Slow(c.spent); got != c.want || at != c.at {
			t.Errorf("%s: got %q of member %d, want %q of %d", name, got, at, c.want, c.at)
		}
	}
}
