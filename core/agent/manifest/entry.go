package manifest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of an entry. They are the kernel's where it has some.
const (
	MaxEntryLen = 1 << 20   // bytes of one encoded record, its length included; half of a frame's payload
	MaxPathLen  = 128 << 10 // bytes of a path; deeper than PATH_MAX, so trees that tar refuses fit
	MaxNameLen  = 255       // bytes of one component (NAME_MAX)
	MaxLinkLen  = 4095      // bytes of a symlink's target (PATH_MAX without the NUL)
	MaxOwnerLen = 256       // bytes of a user's or group's name
)

// maxSize keeps sizes and offsets far from overflow: 2^62 bytes.
const maxSize = 1 << 62

// Entry is one file system object as the source saw it.
type Entry struct {
	// Path is relative and '/'-separated, without ".", ".." and empty
	// components; its first component is the top-level name.
	Path sdk.Raw
	Type sdk.FileType
	Mode uint32 // permission and special bits, 0..07777
	UID  uint32
	GID  uint32
	// Owner and Group are the names for UID and GID on the source; empty if
	// they have none.
	Owner string
	Group string
	// Size in bytes of a regular file; 0 for every other type; -1 while
	// unknown, for a Stream only.
	Size      int64
	MTimeSec  int64
	MTimeNsec uint32  // 0..999999999
	Link      sdk.Raw // target of a symlink
	// HardLink is 1 + the number of the first entry with the same inode; 0
	// for none. An entry that has it brings no content, no digest and no
	// attributes of its own: those of the first are its own.
	HardLink uint64
	// Stream marks entry 0 of a transfer that carries one stream of bytes.
	Stream bool
	Rdev   uint64 // of device nodes
	// Xattrs are the extended attributes, POSIX ACLs among them as the
	// kernel hands them out, in ascending order of their names.
	Xattrs []Xattr
	// ACLNames are the source's names for the users and groups in the ACLs,
	// users first, each in ascending order of their numbers.
	ACLNames []ACLName
	// Extra holds tagged fields that this version does not know, encoded, so
	// that an entry of a newer version passes through unharmed. A sink says
	// that it did not preserve them.
	Extra []byte
}

// Top returns the first component of e.Path.
func (e *Entry) Top() sdk.Raw {
	top, _, _ := strings.Cut(string(e.Path), "/")
	return sdk.Raw(top)
}

// recordVersion is the first byte of a record's body. A new optional field
// gets a tag; only a change of the fixed part makes a new version.
const recordVersion = 1

// Tags of the optional fields, in the order in which they are encoded.
const (
	tagOwner    = 1
	tagGroup    = 2
	tagLink     = 3
	tagHardLink = 4
	tagStream   = 5
	tagRdev     = 6
	tagXattrs   = 7
	tagACLNames = 8
	tagUnknown  = 9 // the first that this version does not know
)

// typeCodes are the file types on the wire; the index is the code.
var typeCodes = [...]sdk.FileType{
	1: sdk.FileRegular,
	2: sdk.FileDirectory,
	3: sdk.FileSymlink,
	4: sdk.FileFifo,
	5: sdk.FileSocket,
	6: sdk.FileCharDev,
	7: sdk.FileBlockDev,
}

// typeCode returns the code of a file type; 0 if it has none.
func typeCode(t sdk.FileType) byte {
	for code, known := range typeCodes {
		if code > 0 && known == t {
			return byte(code)
		}
	}
	return 0
}

// Validate checks e against the bounds and the rules written at its fields.
func (e *Entry) Validate() error {
	if err := ValidatePath(e.Path); err != nil {
		return err
	}
	switch {
	case typeCode(e.Type) == 0:
		return fmt.Errorf("entry %s: unknown file type %q", e.Path.Display(), e.Type)
	case e.Mode > 0o7777:
		return fmt.Errorf("entry %s: mode %#o out of bounds", e.Path.Display(), e.Mode)
	case e.MTimeNsec >= 1e9:
		return fmt.Errorf("entry %s: %d nanoseconds", e.Path.Display(), e.MTimeNsec)
	case len(e.Owner) > MaxOwnerLen || len(e.Group) > MaxOwnerLen:
		return fmt.Errorf("entry %s: owner or group longer than %d bytes", e.Path.Display(), MaxOwnerLen)
	case e.Stream && e.Type != sdk.FileRegular:
		return fmt.Errorf("entry %s: a stream must be a regular file", e.Path.Display())
	case e.Size < -1, e.Size > maxSize, e.Size == -1 && !e.Stream, e.Size != 0 && e.Type != sdk.FileRegular:
		return fmt.Errorf("entry %s: size %d does not fit its type", e.Path.Display(), e.Size)
	case (e.Type == sdk.FileSymlink) != (e.Link != ""):
		return fmt.Errorf("entry %s: a symlink, and nothing else, has a target", e.Path.Display())
	case len(e.Link) > MaxLinkLen || strings.IndexByte(string(e.Link), 0) >= 0:
		return fmt.Errorf("entry %s: the symlink's target is too long or holds a NUL", e.Path.Display())
	case e.Rdev != 0 && e.Type != sdk.FileCharDev && e.Type != sdk.FileBlockDev:
		return fmt.Errorf("entry %s: a device number without a device", e.Path.Display())
	case e.HardLink != 0 && (e.Type == sdk.FileDirectory || e.Stream):
		return fmt.Errorf("entry %s: a directory or a stream has no hard links", e.Path.Display())
	}
	if err := e.validateXattrs(); err != nil {
		return fmt.Errorf("entry %s: %w", e.Path.Display(), err)
	}
	return nil
}

// ValidatePath checks that p is confined: relative, without empty, "." and
// ".." components and NUL, within the bounds.
func ValidatePath(p sdk.Raw) error {
	if p == "" {
		return fmt.Errorf("entry without a path")
	}
	if len(p) > MaxPathLen {
		return fmt.Errorf("path of %d bytes; the limit is %d", len(p), MaxPathLen)
	}
	rest := string(p)
	for more := true; more; {
		var name string
		name, rest, more = strings.Cut(rest, "/")
		if name == "" || name == "." || name == ".." || len(name) > MaxNameLen || strings.IndexByte(name, 0) >= 0 {
			if len(p) > 300 {
				p = p[:300] + "..."
			}
			return fmt.Errorf("path %s: component %q is not allowed", p.Display(), name)
		}
	}
	return nil
}

// AppendEntry appends the encoded record of e to dst: its length and its
// body. Equal entries have equal records.
func AppendEntry(dst []byte, e *Entry) ([]byte, error) {
	if err := e.Validate(); err != nil {
		return dst, err
	}
	size := bodyLen(e)
	if size+binary.MaxVarintLen32 > MaxEntryLen {
		return dst, fmt.Errorf("entry %.300q: record of %d bytes; the limit is %d", string(e.Path), size, MaxEntryLen)
	}
	if err := checkExtra(e.Extra); err != nil {
		return dst, fmt.Errorf("entry %s: %w", e.Path.Display(), err)
	}
	dst = binary.AppendUvarint(dst, uint64(size))
	dst = append(dst, recordVersion, typeCode(e.Type))
	dst = binary.AppendUvarint(dst, uint64(e.Mode))
	dst = binary.AppendUvarint(dst, uint64(e.UID))
	dst = binary.AppendUvarint(dst, uint64(e.GID))
	dst = binary.AppendUvarint(dst, uint64(e.Size+1))
	dst = binary.AppendVarint(dst, e.MTimeSec)
	dst = binary.AppendUvarint(dst, uint64(e.MTimeNsec))
	dst = appendString(dst, string(e.Path))
	dst = appendField(dst, tagOwner, e.Owner)
	dst = appendField(dst, tagGroup, e.Group)
	dst = appendField(dst, tagLink, string(e.Link))
	dst = appendNumberField(dst, tagHardLink, e.HardLink)
	if e.Stream {
		dst = append(dst, tagStream, 0)
	}
	dst = appendNumberField(dst, tagRdev, e.Rdev)
	dst = appendXattrs(dst, e.Xattrs)
	dst = appendACLNames(dst, e.ACLNames)
	return append(dst, e.Extra...), nil
}

// bodyLen is the length of e's body, so that the length can be written in
// front of it without a second buffer.
func bodyLen(e *Entry) int {
	n := 2 + uvarintLen(uint64(e.Mode)) + uvarintLen(uint64(e.UID)) + uvarintLen(uint64(e.GID)) +
		uvarintLen(uint64(e.Size+1)) + uvarintLen(zigzag(e.MTimeSec)) + uvarintLen(uint64(e.MTimeNsec)) +
		uvarintLen(uint64(len(e.Path))) + len(e.Path)
	for _, s := range [...]string{e.Owner, e.Group, string(e.Link)} {
		if s != "" {
			n += 1 + uvarintLen(uint64(len(s))) + len(s)
		}
	}
	for _, v := range [...]uint64{e.HardLink, e.Rdev} {
		if v != 0 {
			n += 2 + uvarintLen(v)
		}
	}
	if e.Stream {
		n += 2
	}
	return n + fieldLen(xattrsLen(e.Xattrs)) + fieldLen(aclNamesLen(e.ACLNames)) + len(e.Extra)
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// appendField appends an optional field; an empty one is left out.
func appendField(dst []byte, tag byte, s string) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, tag), s)
}

func appendNumberField(dst []byte, tag byte, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = append(dst, tag, byte(uvarintLen(v)))
	return binary.AppendUvarint(dst, v)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }
