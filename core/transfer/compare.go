package transfer

import (
	"context"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/sdk"
)

// compare holds each target's root digest against the source's. The
// comparison is made here, because neither end is believed about the other.
// What differs is never committed.
func (r *run) compare(context.Context) error {
	want := r.source().status.Root
	for _, t := range r.targets() {
		if t.failed() {
			continue
		}
		if err := compareRoots(r.verify, want, t.status.Root); err != nil {
			r.failMember(t, err)
		}
	}
	return nil
}

func compareRoots(level control.VerifyLevel, source, target string) *sdk.Error {
	switch {
	case level == control.VerifySigned && (source == "" || target == ""):
		return nil // the signed segments are the proof
	case source == "":
		return &sdk.Error{Kind: sdk.KindIntegrity, Message: "the source told no digest of what it read: the copy cannot be compared with it"}
	case target == "":
		return &sdk.Error{Kind: sdk.KindIntegrity, Message: "the target told no digest of what it holds: the copy cannot be compared"}
	case source != target:
		return &sdk.Error{Kind: sdk.KindIntegrity, Message: "the digests differ: the source read " + source + ", the target holds " + target,
			Hint: "nothing was published; check the target's disk and memory, then run the transfer again"}
	}
	return nil
}
