package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/transferpy/transferpy/core/agent/audit"
	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// Names in an agent's directory.
const (
	packedName  = "manifest.zst" // what VerbManifest hands out
	scratchName = "verify"       // what VerbVerify works in
)

// packed is the source's manifest, compressed when it is first asked for.
type packed struct {
	mu   sync.Mutex
	made bool
}

// manifest reads one piece of what the source has read.
func (s *server) manifest(q *control.Manifest, c *call) error {
	if q.Agent != s.config.Agent {
		return nil
	}
	if !s.sourceRead() {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("agent %s has no source that was read to its end", s.config.Agent)}
	}
	path := filepath.Join(s.dir.path, packedName)
	if err := s.pack(path); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	piece := make([]byte, min(int64(q.Limit), max(st.Size()-q.Offset, 0)))
	if _, err := io.ReadFull(io.NewSectionReader(file, q.Offset, int64(len(piece))), piece); err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	c.piece = &control.Piece{Size: st.Size(), Data: piece}
	return nil
}

// sourceRead reports whether the plan's source is here and was read to its
// end: its spool is closed by then.
func (s *server) sourceRead() bool {
	s.mu.Lock()
	source := s.source
	s.mu.Unlock()
	for _, m := range s.job.Members() {
		if m.Name == source && source != "" {
			return m.Phase.AtLeast(control.PhaseReadDone) && m.Phase != control.PhaseFailed
		}
	}
	return false
}

// pack compresses the source's spool, once.
func (s *server) pack(path string) error {
	s.packed.mu.Lock()
	defer s.packed.mu.Unlock()
	if s.packed.made {
		return nil
	}
	spool, err := manifest.Open(s.dir.path)
	if err != nil {
		return err
	}
	defer spool.Close()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	defer file.Close()
	z, err := zstd.NewWriter(file, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err == nil {
		err = errors.Join(spool.Export(s.acting, z), z.Close())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("the manifest: %w", err)
	}
	s.packed.made = true
	return nil
}

// verify checks a directory. It may take hours; the end of the agent ends it.
func (s *server) verify(q *control.Verify, c *call) error {
	state := &state{path: s.config.StateDir}
	parts := &parts{state: state, list: q.Parts}
	defer parts.discard()
	scratch := filepath.Join(s.dir.path, scratchName)
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer os.RemoveAll(scratch)
	// What a hostile file could make the decoder allocate is bounded.
	z, err := zstd.NewReader(parts, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return err
	}
	defer z.Close()
	c.verified, err = audit.Run(s.acting, audit.Config{Dir: q.Dir, Listing: z, Owner: q.Owner, Ignore: q.Ignore, Scratch: scratch, Checked: &c.checked})
	return err
}

// parts reads messages one after the other, as one stream. Each is deleted
// when it has been read.
type parts struct {
	state *state
	list  []control.VerifyPart
	now   bytes.Reader
}

// Read implements io.Reader.
func (p *parts) Read(b []byte) (int, error) {
	for p.now.Len() == 0 {
		if len(p.list) == 0 {
			return 0, io.EOF
		}
		next := p.list[0]
		p.list = p.list[1:]
		data, err := readMessage(p.state, string(next.Path), next.Digest)
		if err != nil {
			return 0, err
		}
		p.now.Reset(data)
	}
	return p.now.Read(b)
}

// discard deletes what was not read, by the same rules.
func (p *parts) discard() {
	for _, left := range p.list {
		if filepath.Dir(string(left.Path)) == p.state.sub(inDir) {
			os.Remove(string(left.Path))
		}
	}
	p.list = nil
}
