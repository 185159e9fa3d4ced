package file

import (
	"context"
	"strings"

	"github.com/transferpy/transferpy/plugins/modes/preflight"
	"github.com/transferpy/transferpy/sdk"
)

// inspection collects what is wrong with one transfer.
type inspection struct {
	*preflight.Inspection
	p *paths
}

// Inspect judges the answers; all refusals come together. It asks nothing
// more of the hosts.
func (mode) Inspect(_ context.Context, t sdk.Transfer, answers []sdk.Answers, _ sdk.Host) (sdk.Findings, error) {
	p, err := parse(t)
	if err != nil {
		return sdk.Findings{}, err
	}
	in := &inspection{preflight.New(t, answers), p}
	in.source()
	for i := range t.Targets {
		in.target(i)
	}
	return in.Found, nil
}

func (in *inspection) source() {
	host := in.Transfer.Source.Host
	f, ok := in.Facts(host, askSource, "source", in.p.source)
	if !ok || !in.Readable(f, in.p.source, true) {
		return
	}
	found := &in.Found
	found.Bytes, found.Entries, found.AtLeast = f.Bytes, f.Entries, f.Partial
	if f.Entries == 0 {
		found.Bytes, found.Entries = f.Size, 1
		found.AtLeast = f.Partial || f.Type == sdk.FileDirectory
	}
	if found.AtLeast {
		in.Warn("%s:%s could not be counted to its end: at least %s in %d entries; whether they fit is not sure",
			host, in.p.source.Display(), preflight.Size(found.Bytes), found.Entries)
	}
	in.liveSource(f)
}

func (in *inspection) target(i int) {
	host, dir := in.Transfer.Targets[i].Host, in.p.dirs[i]
	in.overlap(i)
	if f, ok := in.Facts(host, askDir(i), "target directory", dir); ok {
		in.Directory(host, dir, f)
		in.liveTarget(i, f)
	}
	if f, ok := in.Facts(host, askEntry(i), "target", in.p.entry(i)); ok && f.Exists {
		in.Refuse(sdk.KindExists, host, "move it away or name another directory; nothing is ever overwritten",
			"%s is there already (%s)", in.p.entry(i).Display(), f.Type)
	}
}

// overlap refuses a copy of something onto or into itself, and two copies in
// one place. Hosts are compared by name: two names of one host are the
// core's to know.
func (in *inspection) overlap(i int) {
	host, dir := in.Transfer.Targets[i].Host, in.p.dirs[i]
	if host == in.Transfer.Source.Host {
		switch {
		case in.p.entry(i) == in.p.source:
			in.Refuse(sdk.KindConfig, host, "name another directory", "source and target are the same: %s", in.p.source.Display())
		case dir == in.p.source || strings.HasPrefix(string(dir), string(in.p.source)+"/"):
			in.Refuse(sdk.KindConfig, host, "name a directory outside of it", "the target directory %s is inside the source %s", dir.Display(), in.p.source.Display())
		}
	}
	in.Once(i, in.p.dirs)
}
