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
	missing := r.rootless()
	for _, t := range r.targets() {
		if t.failed() {
			continue
		}
		if missing != nil {
			r.failMember(t, missing)
			continue
		}
		if err := compareRoots(r.verify, want, t.status.Root); err != nil {
			r.failMember(t, err)
		}
	}
	return nil
}

// rootless says why there is no digest of what was read, where the source was
// lost before it could tell it: no copy is wrong then, only none is proven. It
// is nil where nothing is to be compared or the source has had its say.
func (r *run) rootless() *sdk.Error {
	source := r.source()
	if r.verify == control.VerifySigned || source.status.Root != "" || !source.failed() && source.status.Phase.AtLeast(control.PhaseVerified) {
		return nil
	}
	why := &sdk.Error{Kind: sdk.KindTimeout, Message: source.Host + ": it was silent for too long", Hint: "see whether the host is up"}
	if source.failed() {
		why = source.err
	}
	return &sdk.Error{Kind: why.Kind, Message: "the source was lost before it told the digest of what it read: " + why.Error(), Hint: why.Hint}
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
