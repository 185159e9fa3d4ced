package agent

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/digest"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/process"
	"github.com/transferpy/transferpy/sdk"
)

// streamName is the path of a stream's only entry.
const streamName = "stream"

// streamReader reads one stream of bytes, a command's output or a file, into
// parcels of a piece each.
type streamReader struct {
	in    io.Reader
	end   func() error // whether the stream was complete
	stop  func(context.Context)
	meter *meter

	tree *digest.Tree // owned by the sender
	size int64        // likewise, set with the last parcel
}

// openStream starts the command or opens the file of a read stage.
func (s *source) openStream(ctx context.Context, stage sdk.Stage) (*streamReader, error) {
	m, reads := s.meter, s.reads
	if stage.Command != nil {
		return s.openCommand(ctx, stage.Command)
	}
	if stage.Builtin != sdk.BuiltinFile {
		return nil, &sdk.Error{Kind: sdk.KindUnsupported, Message: "this agent cannot read by " + stage.Builtin}
	}
	f, err := os.Open(string(stage.Path))
	if err != nil {
		return nil, &sdk.Error{Kind: sdk.KindNotFound, Message: "cannot read " + stage.Path.Display() + ": " + err.Error()}
	}
	before, err := identOf(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	seen := file{entry: manifest.Entry{Path: stage.Path}, ident: before}
	return &streamReader{in: reads.stream(ctx, sparedFile(f, before.Size)), end: func() error { return unchanged(f, seen) },
		stop: func(context.Context) { f.Close() }, meter: m, tree: digest.NewTree()}, nil
}

// openCommand starts the command of a read stage. Where its log cannot be kept,
// it is read all the same.
func (s *source) openCommand(ctx context.Context, c *sdk.StageCommand) (*streamReader, error) {
	var log *process.Log
	var to io.Writer
	if c.KeepLog && s.job.cfg.LogDir != "" {
		var err error
		if log, err = process.OpenLog(s.job.cfg.LogDir, s.job.cfg.Transfer+"-"+s.chain.plan.Members[0].Name); err != nil {
			s.meter.warn(control.Warning{What: err.Error(), Count: 1})
		} else {
			to = log
		}
	}
	p, err := process.StartSource(ctx, *c, s.job.cfg.StateDir, to)
	if err != nil {
		if log != nil {
			log.Close()
		}
		return nil, err
	}
	end := func() error { return withLog(p.Wait(), log) }
	stop := func(ctx context.Context) {
		p.Stop(ctx)
		if log != nil {
			log.Close()
		}
	}
	return &streamReader{in: s.reads.stream(ctx, p.Stdout()), end: end, stop: stop, meter: s.meter, tree: digest.NewTree()}, nil
}

// withLog adds to a command's failure where its log lies.
func withLog(err error, log *process.Log) error {
	var e *sdk.Error
	if log == nil || !errors.As(err, &e) || e.Hint != "" {
		return err
	}
	full := *e
	full.Hint = "all that it said is in " + sdk.Raw(log.Path()).Display() + " there"
	return &full
}

// entry is the stream's only entry.
func (s *streamReader) entry() manifest.Entry {
	return manifest.Entry{Path: streamName, Type: sdk.FileRegular, Mode: 0o600, Size: -1, Stream: true}
}

// read emits the entry and then the stream, and succeeds only if it was
// complete.
func (s *streamReader) read(ctx context.Context, spool *manifest.Spool, emit func(context.Context, *parcel) error) error {
	e := s.entry()
	record, err := manifest.AppendEntry(nil, &e)
	if err != nil {
		return err
	}
	if _, _, err := spool.Append(record); err != nil {
		return err
	}
	s.meter.entries.Add(1)
	s.meter.files.Add(1)
	x := frame.Extent{Entry: 0, Offset: 1, Length: uint64(len(record))}
	if err := emit(ctx, newParcel(func(ctx context.Context, k *packer, p *parcel) error {
		return k.into(ctx, p, frame.TypeEntries, []frame.Extent{x}, record, nil)
	})); err != nil {
		return err
	}
	for index := uint64(0); ; index++ {
		piece := make([]byte, digest.PieceSize)
		n, err := io.ReadFull(s.in, piece)
		if n > 0 {
			if err := emit(ctx, s.parcel(index, piece[:n])); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return s.end()
		}
		if err != nil {
			return err
		}
	}
}

func (s *streamReader) parcel(index uint64, content []byte) *parcel {
	return newParcel(func(ctx context.Context, k *packer, p *parcel) error {
		f, node, err := k.piece(ctx, 0, index, len(content), func(b []byte) error { copy(b, content); return nil })
		if err != nil {
			return err
		}
		p.ready, p.bytes = append(p.ready, f), int64(len(content))
		p.nodes = append(p.nodes, placedNode{index: index, length: len(content), node: node})
		return nil
	})
}

// close ends the command, or closes the file.
func (s *streamReader) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s.stop(ctx)
}
