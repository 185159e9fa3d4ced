package tree

import (
	"encoding/binary"
	"slices"

	"github.com/transferpy/transferpy/core/agent/manifest"
)

// An ACL as the kernel hands it out: a version (4 bytes), then for each entry
// its kind (2), permissions (2) and number (4), all little-endian.
const (
	aclHead    = 4
	aclEntry   = 8
	aclVersion = 2
	aclUser    = 2
	aclGroup   = 8
	aclOwning  = 4 // the file's group
)

// eachACLID calls fn for every user and group that an ACL names; the number
// that fn returns takes its place. What is no ACL is left alone.
func eachACLID(acl []byte, fn func(group bool, id uint32) uint32) {
	if len(acl) < aclHead || len(acl)%aclEntry != aclHead || binary.LittleEndian.Uint32(acl) != aclVersion {
		return
	}
	for b := acl[aclHead:]; len(b) > 0; b = b[aclEntry:] {
		kind := binary.LittleEndian.Uint16(b)
		if kind == aclUser || kind == aclGroup {
			id := fn(kind == aclGroup, binary.LittleEndian.Uint32(b[4:]))
			binary.LittleEndian.PutUint32(b[4:], id)
		}
	}
}

// groupPermissions returns what an ACL gives the file's own group, 0..7.
func groupPermissions(acl string) uint32 {
	for b := []byte(acl)[min(aclHead, len(acl)):]; len(b) >= aclEntry; b = b[aclEntry:] {
		if binary.LittleEndian.Uint16(b) == aclOwning {
			return uint32(binary.LittleEndian.Uint16(b[2:])) & 0o7
		}
	}
	return 0
}

// aclNames returns the names for the numbers in an entry's ACLs.
func (w *walker) aclNames(all []manifest.Xattr) []manifest.ACLName {
	var found []manifest.ACLName
	for i := range all {
		if !isACL(all[i].Name) {
			continue
		}
		eachACLID([]byte(all[i].Value), func(group bool, id uint32) uint32 {
			name := w.user(id)
			if group {
				name = w.group(id)
			}
			if name != "" {
				found = append(found, manifest.ACLName{Group: group, ID: id, Name: name})
			}
			return id
		})
	}
	slices.SortFunc(found, func(a, b manifest.ACLName) int {
		switch {
		case a.Group == b.Group && a.ID == b.ID:
			return 0
		case b.Group && !a.Group, a.Group == b.Group && a.ID < b.ID:
			return -1
		}
		return 1
	})
	found = slices.Compact(found)
	// Numbers beyond the bound stay numbers.
	return found[:min(len(found), maxACLNames)]
}

// maxACLNames keeps the longest possible names within the manifest's bound.
const maxACLNames = 200

// acl returns an ACL with the numbers that its users and groups have here, by
// the same rule as owners; without names (--owner numeric) as it is. One
// owner for all files says nothing about ACLs: there names count.
func (w *owner) acl(value string, known []manifest.ACLName) string {
	if w.numeric || len(known) == 0 {
		return value
	}
	b := []byte(value)
	eachACLID(b, func(group bool, id uint32) uint32 {
		for _, k := range known {
			if k.Group != group || k.ID != id {
				continue
			}
			if here, ok := w.number(group, k.Name); ok {
				return here
			}
		}
		return id
	})
	return string(b)
}
