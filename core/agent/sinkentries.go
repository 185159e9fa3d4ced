package agent

import (
	"fmt"

	"github.com/transferpy/transferpy/core/agent/codec"
	"github.com/transferpy/transferpy/core/agent/frame"
	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/sdk"
)

// entries books new entries and makes what has no content.
func (s *treeSink) entries(f *frame.Frame) error {
	if s.short && f.Extent(0).Entry > s.spool.Len() {
		return nil // those before it were announced in a gap: they come with what is missing
	}
	records, err := codec.Decompress(codec.ID(f.Codec), nil, f.Payload(), f.Decoded)
	if err != nil {
		return s.t.broken(err.Error())
	}
	first, n, err := s.spool.Append(records)
	if err != nil {
		return err
	}
	if x := f.Extent(0); x.Entry != first || x.Offset != uint64(n) {
		return s.t.broken(fmt.Sprintf("entries %d+%d came where %d was due", x.Entry, x.Offset, first))
	}
	for number := first; len(records) > 0; number++ {
		var e manifest.Entry
		if e, records, err = manifest.DecodeEntry(records); err != nil {
			return s.t.broken(err.Error())
		}
		s.t.meter.entries.Add(1)
		if e.HardLink != 0 {
			if err := s.link(&e); err != nil {
				return err
			}
			continue
		}
		if e.Type == sdk.FileRegular && e.Size > 0 {
			if took, err := s.inherit(number, &e); err != nil {
				return err
			} else if took {
				continue
			}
			if err := s.files.expect(number, e); err != nil {
				return err
			}
			continue
		}
		if err := s.disk.Create(&e); err != nil {
			return err
		}
		if e.Type == sdk.FileRegular {
			s.t.meter.files.Add(1)
		}
	}
	return nil
}

// link makes a further name of a file, whose content comes by the first.
func (s *treeSink) link(e *manifest.Entry) error {
	first, err := s.spool.Entry(e.HardLink - 1)
	if err != nil {
		return err
	}
	if e.Type == sdk.FileRegular {
		s.t.meter.files.Add(1)
	}
	return s.disk.Link(e, &first)
}

// digests books what the source says of its files.
func (s *treeSink) digests(f *frame.Frame) error {
	list, err := frame.FileDigests(f.Payload())
	if err != nil {
		return s.t.broken(err.Error())
	}
	for _, d := range list {
		switch {
		case d.Entry < s.spool.Len():
		case s.short: // the entry was announced in a gap
			continue
		default:
			return s.t.broken(fmt.Sprintf("a digest of entry %d, of %d", d.Entry, s.spool.Len()))
		}
		if err := s.book(d); err != nil {
			return err
		}
	}
	return nil
}

// book books one of them.
func (s *treeSink) book(d frame.FileDigest) error {
	was, err := s.spool.Digest(d.Entry)
	if err != nil {
		return err
	}
	if was.State == manifest.DigestKept && (was.Sum != d.Sum || was.Size != int64(d.Size)) {
		if err := s.disown(d.Entry); err != nil {
			return err
		}
	}
	if err := s.spool.SetDigest(d.Entry, manifest.Digest{Size: int64(d.Size), Sum: d.Sum, State: manifest.DigestOK}); err != nil {
		return err
	}
	if s.kept.has(d.Entry) {
		return nil // it is read back in the end
	}
	return s.files.told(d, func() sdk.Raw { return s.pathOf(d.Entry) })
}

// pathOf is the path of an entry, for messages; empty if it cannot be found.
func (s *treeSink) pathOf(number uint64) sdk.Raw {
	e, err := s.spool.Entry(number)
	if err != nil {
		return ""
	}
	return e.Path
}
