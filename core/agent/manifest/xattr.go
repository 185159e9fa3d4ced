package manifest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Bounds of extended attributes: the kernel's for one, ours for all of an
// entry, so that a record stays small enough for a frame.
const (
	MaxXattrNameLen = 255
	MaxXattrLen     = 64 << 10  // bytes of one value
	MaxXattrsLen    = 768 << 10 // bytes of all of an entry, encoded
	MaxACLNames     = 4096      // of an entry; an ACL of 64 KiB has 8,190 entries, nearly all of them on two lists
)

// Xattr is an extended attribute: any bytes under a name with its namespace
// ("user.colour"). POSIX ACLs are such attributes too.
type Xattr struct {
	Name  string
	Value string
}

// EncodedLen is how much of MaxXattrsLen the attribute takes.
func (x *Xattr) EncodedLen() int {
	return uvarintLen(uint64(len(x.Name))) + len(x.Name) + uvarintLen(uint64(len(x.Value))) + len(x.Value)
}

// ACLName is the source's name for a number that stands in an ACL.
type ACLName struct {
	Group bool
	ID    uint32
	Name  string
}

func (a *ACLName) encodedLen() int {
	return 1 + uvarintLen(uint64(a.ID)) + uvarintLen(uint64(len(a.Name))) + len(a.Name)
}

// after reports whether a stands behind b: users first, then groups, each by
// number.
func (a *ACLName) after(b *ACLName) bool {
	if a.Group != b.Group {
		return a.Group
	}
	return a.ID > b.ID
}

// validateXattrs checks the bounds and the order that makes the encoding the
// only one.
func (e *Entry) validateXattrs() error {
	if e.HardLink != 0 && (len(e.Xattrs) > 0 || len(e.ACLNames) > 0) {
		return errors.New("attributes stand at the first of hard links only")
	}
	for i := range e.Xattrs {
		x := &e.Xattrs[i]
		if x.Name == "" || len(x.Name) > MaxXattrNameLen || strings.IndexByte(x.Name, 0) >= 0 || len(x.Value) > MaxXattrLen {
			return fmt.Errorf("extended attribute %.300q is malformed or too long", x.Name)
		}
		if i > 0 && x.Name <= e.Xattrs[i-1].Name {
			return fmt.Errorf("extended attribute %q is out of order", x.Name)
		}
	}
	if n := xattrsLen(e.Xattrs); n > MaxXattrsLen {
		return fmt.Errorf("extended attributes of %d bytes; the limit is %d", n, MaxXattrsLen)
	}
	if len(e.ACLNames) > MaxACLNames {
		return fmt.Errorf("%d names in ACLs; the limit is %d", len(e.ACLNames), MaxACLNames)
	}
	for i := range e.ACLNames {
		a := &e.ACLNames[i]
		if a.Name == "" || len(a.Name) > MaxOwnerLen {
			return fmt.Errorf("name %.300q in an ACL is empty or too long", a.Name)
		}
		if i > 0 && !a.after(&e.ACLNames[i-1]) {
			return fmt.Errorf("name %q in an ACL is out of order", a.Name)
		}
	}
	if n := aclNamesLen(e.ACLNames); n > maxACLNamesLen {
		return fmt.Errorf("names in ACLs of %d bytes; the limit is %d", n, maxACLNamesLen)
	}
	return nil
}

// maxACLNamesLen bounds the names of one entry, encoded.
const maxACLNamesLen = 64 << 10

func xattrsLen(all []Xattr) int {
	n := 0
	for i := range all {
		n += all[i].EncodedLen()
	}
	return n
}

func aclNamesLen(all []ACLName) int {
	n := 0
	for i := range all {
		n += all[i].encodedLen()
	}
	return n
}

// appendXattrs appends the field of the attributes: for each its name and its
// value, as strings with their lengths.
func appendXattrs(dst []byte, all []Xattr) []byte {
	if len(all) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tagXattrs), uint64(xattrsLen(all)))
	for _, x := range all {
		dst = appendString(appendString(dst, x.Name), x.Value)
	}
	return dst
}

// appendACLNames appends the field of the names: for each one byte (0: user,
// 1: group), the number and the name.
func appendACLNames(dst []byte, all []ACLName) []byte {
	if len(all) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(append(dst, tagACLNames), uint64(aclNamesLen(all)))
	for _, a := range all {
		group := byte(0)
		if a.Group {
			group = 1
		}
		dst = binary.AppendUvarint(append(dst, group), uint64(a.ID))
		dst = appendString(dst, a.Name)
	}
	return dst
}

// fieldLen is the length of a field with a body of n bytes; an empty one is
// left out.
func fieldLen(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + uvarintLen(uint64(n)) + n
}

// xattrs reads what appendXattrs wrote.
func (d *decoder) xattrs() []Xattr {
	in := decoder{b: []byte(d.filled(MaxXattrsLen))}
	var all []Xattr
	for d.err == nil && len(in.b) > 0 {
		all = append(all, Xattr{Name: in.string(MaxXattrNameLen), Value: in.string(MaxXattrLen)})
		d.err = in.err
	}
	return all
}

// aclNames reads what appendACLNames wrote.
func (d *decoder) aclNames() []ACLName {
	in := decoder{b: []byte(d.filled(maxACLNamesLen))}
	var all []ACLName
	for d.err == nil && len(in.b) > 0 {
		group := in.byte()
		if in.err == nil && group > 1 {
			in.err = fmt.Errorf("entry: kind %d of a name in an ACL", group)
		}
		all = append(all, ACLName{Group: group == 1, ID: uint32(in.uvarint(1<<32 - 1)), Name: in.string(MaxOwnerLen)})
		d.err = in.err
	}
	return all
}
