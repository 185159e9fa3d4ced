package unpack

import (
	"os"

	"lukechampine.com/blake3"

	"github.com/transferpy/transferpy/core/agent/manifest"
)

// output is one file that is being written, from its beginning to its end.
type output struct {
	u     *Unpacker
	entry manifest.Entry
	f     *os.File
	at    int64
	sum   *blake3.Hasher // nil: no digest is kept
	proof *proof         // nil: it proves nothing
	holes bool           // runs of zeros are left out
}

// open makes the file of a member.
func (u *Unpacker) open(e manifest.Entry, dirMode uint32) (*output, error) {
	f, err := u.create(&e, dirMode)
	if err != nil {
		return nil, err
	}
	return u.writer(e, f), nil
}

// writer writes into a file that is there, and empty.
func (u *Unpacker) writer(e manifest.Entry, f *os.File) *output {
	o := &output{u: u, entry: e, f: f}
	if u.opts.Digests {
		o.sum = blake3.New(32, nil)
	}
	if u.proof.wants(string(e.Path)) {
		o.proof = u.proof
		o.proof.restart()
	}
	return o
}

// write appends b.
func (o *output) write(b []byte) error {
	if !o.holes || !zero(b) {
		if _, err := o.f.WriteAt(b, o.at); err != nil {
			return cannotWrite(&o.entry, err)
		}
	}
	o.at += int64(len(b))
	if o.sum != nil {
		_, _ = o.sum.Write(b) // a hash never fails
	}
	if o.proof != nil {
		o.proof.see(b)
	}
	return nil
}

// end closes the file, which is whole.
func (o *output) end() error {
	var err error
	if o.holes { // its end may be a hole
		err = o.f.Truncate(o.at)
	}
	if cerr := o.f.Close(); err == nil {
		err = cerr
	}
	o.f = nil
	if err != nil {
		return cannotWrite(&o.entry, err)
	}
	o.entry.Size = o.at
	w := written{entry: o.entry}
	if o.sum != nil {
		o.sum.Sum(w.sum[:0])
	}
	if o.proof != nil {
		o.proof.end()
	}
	o.u.files.Add(1)
	return o.u.ledger.add(&w)
}

// abandon closes the file as it is.
func (o *output) abandon() {
	if o.f != nil {
		o.f.Close()
	}
}

// zero reports whether b holds nothing but zeros.
func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
