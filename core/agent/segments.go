package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

func isEnd(err error) bool { return errors.Is(err, io.EOF) }

// newChecker checks the source's signatures on pass 1.
func (t *target) newChecker() *frame.Checker { return t.passChecker(1) }

// passChecker checks the source's signatures on a pass.
func (t *target) passChecker(pass uint32) *frame.Checker {
	return &frame.Checker{
		Scope: frame.Scope{Transfer: t.job.cfg.Transfer, Pass: pass},
		Hash:  frameHash,
		Key:   t.chain.plan.Members[0].SigningKey,
	}
}

// altered says that a segment does not bear the source's signature, and of
// which entry the altered frame claims to be.
func (t *target) altered(err error, frames []claim, spool *manifest.Spool) error {
	var ae *frame.AlteredError
	where := ""
	if errors.As(err, &ae) && ae.Frame >= 0 && ae.Frame < len(frames) {
		where = frames[ae.Frame].in(spool)
	}
	return &sdk.Error{Kind: sdk.KindIntegrity, Host: t.member.Host,
		Message: "what arrived" + where + " is not what the source sent: " + err.Error(),
		Hint:    "somebody or something between the hosts altered it: check memory, network cards and relays"}
}

// claim is what a frame says that it is about; worth nothing until its
// segment's signature held.
type claim struct {
	entry   uint64
	last    uint64 // of several entries
	piece   uint64 // the first of entry, where it is alone
	pieces  uint64
	others  int // files that it has bytes of beside entry
	content bool
}

// in names the file that a frame claims to be of, for messages; it is empty
// where it cannot be found.
func (c claim) in(spool *manifest.Spool) string {
	if !c.content {
		return ""
	}
	e, err := spool.Entry(c.entry)
	switch {
	case err != nil:
		return ""
	case c.others > 0:
		return fmt.Sprintf(" in %s or one of the %d files that came with it", e.Path.Display(), c.others)
	}
	return " in " + e.Path.Display()
}

func claimOf(f *frame.Frame) claim {
	if f.Type != frame.TypeData && f.Type != frame.TypeHole {
		return claim{}
	}
	x, z := f.Extent(0), f.Extent(f.Header.Extents-1)
	c := claim{entry: x.Entry, last: z.Entry, content: true}
	if x.Entry == z.Entry && z.Offset >= x.Offset {
		c.piece = x.Offset / digest.PieceSize
		c.pieces = (z.Offset+max(z.Length, 1)-1)/digest.PieceSize + 1 - c.piece
	}
	for i := 1; i < f.Header.Extents; i++ {
		if f.Extent(i).Entry != f.Extent(i-1).Entry {
			c.others++
		}
	}
	return c
}

// broken is an error in what arrived: it cannot be what an honest source sent.
func (t *target) broken(message string) error {
	return &sdk.Error{Kind: sdk.KindIntegrity, Host: t.member.Host, Message: "what arrived makes no sense: " + message,
		Hint: "check memory and network of the hosts in the chain, then run the transfer again"}
}

// undecodable says that a frame cannot be decoded, which is found before its
// segment's signature is.
func (t *target) undecodable(err error, c claim, spool *manifest.Spool) error {
	return &sdk.Error{Kind: sdk.KindIntegrity, Host: t.member.Host, Message: "what arrived" + c.in(spool) + " cannot be decoded: " + err.Error(),
		Hint: "check memory and network of the hosts in the chain, then run the transfer again"}
}

// sourceFailure reads the payload of a failure frame.
func (t *target) sourceFailure(f *frame.Frame) error {
	var e sdk.Error
	if err := json.Unmarshal(f.Payload(), &e); err != nil {
		return t.broken("a failure without a reason")
	}
	return t.sourceFailed(&e)
}
