package transfer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/listing"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// manifestSilence is how long the source may stay away while its manifest is
// fetched.
const manifestSilence = 2 * time.Minute

// fetchManifest has the source's agent hand out what it has read, and writes
// it to a file beside the one that was asked for, which gets its name when
// the targets are committed. By now the copies are good: that the list of
// them cannot be had is told, and does not undo them.
func (r *run) fetchManifest(ctx context.Context) error {
	if err := r.alive(ctx, r.writeManifest); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.failManifest(err)
	}
	return nil
}

// failManifest notes that there will be no manifest, and tells of it.
func (r *run) failManifest(err error) {
	e := *sdk.AsError(err)
	e.Message = "the manifest could not be written: " + e.Message
	if e.Hint == "" {
		e.Hint = "the copies are not concerned"
	}
	r.manifestErr = &e
	r.fail(&e)
}

// writeManifest fetches, unpacks, checks and writes, all at once.
func (r *run) writeManifest(ctx context.Context) error {
	source := r.source()
	header := listing.Header{Rule: manifest.RuleBLAKE3, Entries: uint64(max(source.status.Entries, 0)), Transfer: r.id,
		Source: r.req.Source.Host + ":" + string(r.req.Source.Path), Time: r.report.Began}
	if r.verify == control.VerifySigned {
		header.Rule = manifest.RuleNone
	}
	// It was compared with the targets' roots.
	if n, err := hex.Decode(header.Root[:], []byte(source.status.Root)); err != nil || n != len(header.Root) {
		return errors.New("the source told no digest of what it read")
	}
	out, err := listing.NewWriter(r.manifest.file, header)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	packed, feed := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { feed.CloseWithError(r.fetchPieces(ctx, feed)) })
	defer wg.Wait()
	defer packed.Close() // before the wait: it ends a write that nobody reads
	defer cancel()
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	if err := manifest.Import(z, out.Add); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return err
	}
	return r.manifest.sync()
}

// fetchPieces asks for one piece after the other, each as large as the
// executor brings back.
func (r *run) fetchPieces(ctx context.Context, w io.Writer) error {
	host, id := r.source().Host, r.agents[r.source().Host].id
	// In JSON three bytes become four.
	limit := min(max(r.fleet.Room(host)/2, 4<<10), control.MaxPiece)
	for at := int64(0); ; {
		req := r.request(control.VerbManifest)
		req.Manifest = &control.Manifest{Agent: id, Offset: at, Limit: limit}
		answer, err := r.repeat(ctx, host, id, req)
		if err != nil {
			return err
		}
		piece := answer.Piece
		if piece == nil || len(piece.Data) > limit || len(piece.Data) == 0 && at < piece.Size {
			return &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: "the agent handed out no piece of its manifest"}
		}
		if _, err := io.Copy(w, bytes.NewReader(piece.Data)); err != nil {
			return err
		}
		if at += int64(len(piece.Data)); at >= piece.Size {
			return nil
		}
	}
}

func (r *run) repeat(ctx context.Context, host, id string, req control.Request) (*control.Answer, error) {
	c := repeated{fleet: r.fleet, host: host, agent: id, silence: manifestSilence}
	return c.ask(ctx, req)
}

// openManifest makes sure that the manifest can be written, before anything
// else is done. A dry run leaves nothing.
func (r *run) openManifest() (err error) {
	switch {
	case r.req.Manifest == "":
	case r.dry():
		err = free(r.req.Manifest)
	default:
		removeRests(&r.req, r.id)
		r.manifest, err = createNew(r.req.Manifest, r.id)
	}
	return err
}

// anyGood reports whether a target has not failed.
func (r *run) anyGood() bool {
	return slices.ContainsFunc(r.targets(), func(t *member) bool { return !t.failed() })
}

// settleManifest gives the manifest its name if a target was committed, which
// can be checked against it, else there is none.
func (r *run) settleManifest() {
	if r.manifest == nil || r.manifestErr != nil || len(r.members) == 0 {
		return
	}
	if !slices.ContainsFunc(r.targets(), func(t *member) bool { return t.status.Phase == control.PhaseCommitted }) {
		return
	}
	if err := r.manifest.publish(); err != nil {
		r.failManifest(err)
		return
	}
	r.report.Manifest = r.req.Manifest
}
