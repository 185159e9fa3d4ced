package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mattn/go-runewidth"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/holdup"
	"github.com/transferpy/transferpy/core/progress"
	"github.com/transferpy/transferpy/sdk"
)

// noon is when all samples are shown.
var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// sample is a target in mid-copy, heard of a second ago.
func sample(host string, change func(*progress.Member)) progress.Member {
	m := progress.Member{
		Reading: progress.Reading{Host: host, Path: "/srv", At: noon.Add(-time.Second),
			Status: control.MemberStatus{Name: "target-1", Phase: control.PhaseMoving, Bytes: 1_240_000_000, Wire: 500_000_000, Files: 12}},
		Done: 1_240_000_000, Total: 3_100_000_000, Rate: 112_000_000, Ratio: 2.48, Left: 17 * time.Second, Held: holdup.Link, HeldHost: host,
	}
	if change != nil {
		change(&m)
	}
	return m
}

func TestSentence(t *testing.T) {
	cases := map[string]struct {
		change func(*progress.Member)
		want   string
	}{
		"all known": {nil, "sending 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, 16 s left, held by link"},
		"unknown total": {func(m *progress.Member) { m.Total, m.Left = -1, -1 },
			"sending 1.24 GB in 12 files, 112 MB/s, ratio 2.48, held by link"},
		"a lower bound": {func(m *progress.Member) { m.AtLeast, m.Left = true, -1 },
			"sending 1.24 GB of at least 3.10 GB in 12 files, 112 MB/s, ratio 2.48, held by link"},
		"the first answer": {func(m *progress.Member) { m.Rate, m.Left, m.Held, m.Ratio = -1, -1, "", 0 },
			"sending 1.24 GB of 3.10 GB (40 %) in 12 files"},
		"standing still": {func(m *progress.Member) { m.Rate, m.Left = 0, -1 },
			"sending 1.24 GB of 3.10 GB (40 %) in 12 files, 0 B/s, ratio 2.48, held by link"},
		"an old figure": {func(m *progress.Member) { m.At = noon.Add(-40 * time.Second); m.Left = 3 * time.Minute },
			"sending 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, 2m20s left, held by link, as of 40 s ago"},
		"older than the time that was left": {func(m *progress.Member) { m.At = noon.Add(-10 * time.Minute) },
			"sending 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, held by link, as of 10m ago"},
		"almost all": {func(m *progress.Member) { m.Done, m.Left = m.Total-1, time.Second },
			"sending 3.10 GB of 3.10 GB (99 %) in 12 files, 112 MB/s, ratio 2.48, held by link"},
		"nothing to send": {func(m *progress.Member) { m.Done, m.Total, m.Rate, m.Left, m.Ratio, m.Status.Files = 0, 0, 0, -1, 0, 1 },
			"sending 0 B of 0 B in 1 file, 0 B/s, held by link"},
		"verifying": {func(m *progress.Member) { m.Status.Phase, m.Held = control.PhaseVerifying, holdup.TargetDisk },
			"verifying 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, 16 s left, held by target disk"},
		"verified": {func(m *progress.Member) { m.Status.Phase, m.Done = control.PhaseVerified, m.Total },
			"verified 3.10 GB of 3.10 GB (100 %) in 12 files, ratio 2.48"},
		"verified long ago": {func(m *progress.Member) {
			m.Status.Phase, m.Done, m.At = control.PhaseVerified, m.Total, noon.Add(-time.Hour)
		}, "verified 3.10 GB of 3.10 GB (100 %) in 12 files, ratio 2.48"},
		"failed":           {func(m *progress.Member) { m.Status.Phase = control.PhaseFailed }, "failed"},
		"linking":          {func(m *progress.Member) { m.Status.Phase = control.PhaseLinking }, "linking"},
		"ready":            {func(m *progress.Member) { m.Status.Phase = control.PhaseReady }, "waiting"},
		"not heard of yet": {func(m *progress.Member) { m.Status.Phase, m.At = control.PhasePrepared, time.Time{} }, "linking"},
		"held by another's disk": {func(m *progress.Member) { m.Held, m.HeldHost = holdup.TargetDisk, "d\x1bb9" },
			`sending 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, 16 s left, held by target disk of d\x1bb9`},
		"held by another's link": {func(m *progress.Member) { m.HeldHost = "db9" },
			"sending 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, 16 s left, held by link to db9"},
		"held by the limit": {func(m *progress.Member) { m.Held, m.HeldHost = holdup.Limit, "db1" },
			"sending 1.24 GB of 3.10 GB (40 %) in 12 files, 112 MB/s, ratio 2.48, 16 s left, held by the limit"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m := sample("db2", c.change)
			l := lineOf(&m, noon)
			if got := l.sentence(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestBoard(t *testing.T) {
	verifying := func(m *progress.Member) {
		m.Status.Phase, m.Held, m.Done, m.Left = control.PhaseVerifying, holdup.TargetDisk, 310_000_000, 3*time.Minute
	}
	old := func(m *progress.Member) { m.At = noon.Add(-time.Minute); m.Left = -1; m.Held = "" }
	failed := func(m *progress.Member) { m.Status.Phase = control.PhaseFailed }
	verified := func(m *progress.Member) { m.Status.Phase, m.Done = control.PhaseVerified, m.Total }
	many := func(n int) (list []progress.Member) {
		for i := range n {
			change := []func(*progress.Member){nil, nil, verifying, failed, verified}[i%5]
			list = append(list, sample(fmt.Sprintf("db%d", i), change))
		}
		return list
	}
	hostile := sample("d\x1b[2Jb2", func(m *progress.Member) { m.Path = "/srv/\xff\nx" })
	long := sample("backup-source-codfw-0042.example.org", func(m *progress.Member) { m.Path = sdk.Raw("/srv/" + strings.Repeat("x", 60)) })
	wide := sample("db2", func(m *progress.Member) { m.Path = "/srv/備份" })
	cases := map[string]struct {
		targets     []progress.Member
		width, rows int
		want        string
	}{
		"wide": {[]progress.Member{sample("db2", nil), sample("db10", verifying), sample("db3", old), sample("db4", failed)}, 140, 24, `
db2:/srv   sending    1.24 GB of 3.10 GB (40 %)  112 MB/s   16 s left  held by link         ratio 2.48  in 12 files
db10:/srv  verifying   310 MB of 3.10 GB (10 %)  112 MB/s  2m59s left  held by target disk  ratio 2.48  in 12 files
db3:/srv   sending    1.24 GB of 3.10 GB (40 %)  112 MB/s                                   ratio 2.48  in 12 files  as of 60 s ago
db4:/srv   failed
`},
		"80 columns": {[]progress.Member{sample("db2", nil), sample("db10", verifying)}, 80, 24, `
db2:/srv   sending    1.24 GB of 3.10 GB (40 %)  112 MB/s   16 s left
db10:/srv  verifying   310 MB of 3.10 GB (10 %)  112 MB/s  2m59s left
`},
		"narrow":                      {[]progress.Member{sample("db2", nil)}, 40, 24, "\ndb2:/srv  sending  1.24 GB of 3.10 GB …\n"},
		"as good as none":             {[]progress.Member{sample("db2", nil)}, 1, 1, "\ndb2:/srv  sending  …\n"},
		"an old figure keeps its age": {[]progress.Member{sample("db2", old)}, 70, 24, "\ndb2:/srv  sending  1.24 GB of 3.10 GB (40 %)  as of 60 s ago\n"},
		"hostile":                     {[]progress.Member{hostile}, 80, 24, "\n" + `d\x1b[2Jb2:/srv/\xff\nx  sending  1.24 GB of 3.10 GB (40 %)  112 MB/s` + "\n"},
		"a long name":                 {[]progress.Member{long}, 80, 24, "\nbackup-source-codfw-0042.example…  sending  1.24 GB of 3.10 GB (40 %)  112 MB/s\n"},
		"wide characters": {[]progress.Member{wide, sample("db3", nil)}, 60, 24, `
db2:/srv/備份  sending  1.24 GB of 3.10 GB (40 %)  112 MB/s
db3:/srv       sending  1.24 GB of 3.10 GB (40 %)  112 MB/s
`},
		"more targets than rows": {many(20), 50, 8, `
db0:/srv  sending    1.24 GB of 3.10 GB (40 %)
db1:/srv  sending    1.24 GB of 3.10 GB (40 %)
db2:/srv  verifying   310 MB of 3.10 GB (10 %)
db5:/srv  sending    1.24 GB of 3.10 GB (40 %)
db6:/srv  sending    1.24 GB of 3.10 GB (40 %)
and 15 more: 4 failed, 4 sending, 3 verifying, 4…
`},
		"one row": {many(5), 80, 3, "\n5: 1 failed, 2 sending, 1 verifying, 1 verified\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := board(c.targets, noon, c.width, c.rows)
			if diff := cmp.Diff(strings.Split(strings.Trim(c.want, "\n"), "\n"), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			for _, line := range got {
				if w := runewidth.StringWidth(line); w >= max(c.width, 21) {
					t.Errorf("%d cells of %d: %s", w, c.width, line)
				}
			}
		})
	}
}

// TestBoardFits holds any board to the room that it is given.
func TestBoardFits(t *testing.T) {
	for width := 21; width < 200; width += 7 {
		for rows := 1; rows < 12; rows++ {
			var list []progress.Member
			for i := range 9 {
				list = append(list, sample(strings.Repeat("é", i*9+1), func(m *progress.Member) { m.Rate *= float64(i * i * i) }))
			}
			got := board(list, noon, width, rows)
			if len(got) == 0 || len(got) > max(rows-2, 1) {
				t.Fatalf("%d lines in %d rows", len(got), rows)
			}
			for _, line := range got {
				if w := runewidth.StringWidth(line); w >= width {
					t.Fatalf("%d cells of %d: %s", w, width, line)
				}
			}
		}
	}
}
