package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/transferpy/transferpy/sdk"
)

// errShort says that a record ends before it should.
var errShort = errors.New("entry: record cut short")

// DecodeEntry decodes the record at the beginning of b and returns what
// follows it. It accepts exactly what AppendEntry makes: a record that it
// takes encodes to the same bytes again. The entry shares no memory with b.
func DecodeEntry(b []byte) (e Entry, rest []byte, err error) {
	d := decoder{b: b}
	size := d.uvarint(MaxEntryLen)
	if d.err != nil {
		return Entry{}, nil, d.err
	}
	if size > len(d.b) {
		return Entry{}, nil, errShort
	}
	if len(b)-len(d.b)+size > MaxEntryLen {
		return Entry{}, nil, fmt.Errorf("entry: record longer than %d bytes", MaxEntryLen)
	}
	rest, d.b = d.b[size:], d.b[:size]
	d.fixed(&e)
	d.optional(&e)
	if d.err != nil {
		return Entry{}, nil, d.err
	}
	if err := e.Validate(); err != nil {
		return Entry{}, nil, err
	}
	return e, rest, nil
}

// decoder reads a record; after the first error it reads nothing more.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fixed(e *Entry) {
	if version := d.byte(); d.err == nil && version != recordVersion {
		d.err = fmt.Errorf("entry: record version %d; this agent knows %d", version, recordVersion)
		return
	}
	code := d.byte()
	if d.err != nil {
		return
	}
	if code == 0 || int(code) >= len(typeCodes) {
		d.err = fmt.Errorf("entry: file type code %d", code)
		return
	}
	e.Type = typeCodes[code]
	e.Mode = uint32(d.uvarint(0o7777))
	e.UID = uint32(d.uvarint(math.MaxUint32))
	e.GID = uint32(d.uvarint(math.MaxUint32))
	e.Size = int64(d.uvarint(maxSize+1)) - 1
	e.MTimeSec = unzigzag(d.uvarint64())
	e.MTimeNsec = uint32(d.uvarint(1e9 - 1))
	e.Path = sdk.Raw(d.string(MaxPathLen))
}

// optional reads the tagged fields, which stand in ascending order.
func (d *decoder) optional(e *Entry) {
	last := 0
	for d.err == nil && len(d.b) > 0 {
		before := d.b
		tag := d.uvarint(maxTag)
		if d.err == nil && tag <= last {
			d.err = fmt.Errorf("entry: field %d after field %d", tag, last)
		}
		last = tag
		switch tag {
		case tagOwner:
			e.Owner = d.filled(MaxOwnerLen)
		case tagGroup:
			e.Group = d.filled(MaxOwnerLen)
		case tagLink:
			e.Link = sdk.Raw(d.filled(MaxLinkLen))
		case tagHardLink:
			e.HardLink = d.number()
		case tagStream:
			e.Stream = true
			d.string(0)
		case tagRdev:
			e.Rdev = d.number()
		case tagXattrs:
			e.Xattrs = d.xattrs()
		case tagACLNames:
			e.ACLNames = d.aclNames()
		default:
			d.string(MaxEntryLen)
			e.Extra = append(e.Extra, before[:len(before)-len(d.b)]...)
		}
	}
}

// maxTag bounds tags, so that a later version can count on their order.
const maxTag = 1 << 16

// checkExtra checks that extra is a list of fields as optional keeps them.
func checkExtra(extra []byte) error {
	d := decoder{b: extra}
	for last := tagUnknown - 1; d.err == nil && len(d.b) > 0; {
		tag := d.uvarint(maxTag)
		if d.err == nil && tag <= last {
			return fmt.Errorf("extra field %d is known or out of order", tag)
		}
		last = tag
		d.string(MaxEntryLen)
	}
	return d.err
}

func (d *decoder) byte() byte {
	if d.err == nil && len(d.b) == 0 {
		d.err = errShort
	}
	if d.err != nil {
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// uvarint reads a number up to limit.
func (d *decoder) uvarint(limit uint64) int {
	v := d.uvarint64()
	if d.err == nil && v > limit {
		d.err = fmt.Errorf("entry: number %d is above %d", v, limit)
		return 0
	}
	return int(v)
}

// uvarint64 reads a number in its shortest form; a longer one would decode
// to an entry that encodes otherwise.
func (d *decoder) uvarint64() uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.b)
	switch {
	case n == 0:
		d.err = errShort
		return 0
	case n < 0 || n != uvarintLen(v):
		d.err = errors.New("entry: number not in its shortest form")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) string(limit uint64) string {
	n := d.uvarint(limit)
	if d.err == nil && n > len(d.b) {
		d.err = errShort
	}
	if d.err != nil {
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

// filled reads a string that is not empty: empty ones are left out.
func (d *decoder) filled(limit uint64) string {
	s := d.string(limit)
	if d.err == nil && s == "" {
		d.err = errors.New("entry: empty optional field")
	}
	return s
}

// number reads a field that is one number other than 0.
func (d *decoder) number() uint64 {
	n := d.uvarint(binary.MaxVarintLen64)
	before := len(d.b)
	v := d.uvarint64()
	if d.err == nil && (v == 0 || before-len(d.b) != n) {
		d.err = errors.New("entry: malformed number field")
	}
	return v
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }
