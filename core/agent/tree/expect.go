package tree

import (
	"slices"

	"github.com/transferpy/transferpy/core/agent/manifest"
)

// Expectation tells what a Sink would have made of an entry's owner and
// extended attributes on this host: what a copy is to be compared with. Safe
// for concurrent use.
type Expectation struct{ w *owner }

// NewExpectation takes --owner: name, numeric or USER:GROUP.
func NewExpectation(option string) (*Expectation, error) {
	w, err := newOwner(SinkOptions{Owner: option})
	if err != nil {
		return nil, err
	}
	return &Expectation{w}, nil
}

// Owner returns the numbers that e's owner and group have here.
func (x *Expectation) Owner(e *manifest.Entry) (uid, gid uint32) { return x.w.of(e) }

// Xattrs returns what an agent of this user can see of e's attributes, with
// the numbers that the names in ACLs have here.
func (x *Expectation) Xattrs(e *manifest.Entry) []manifest.Xattr {
	all := slices.Clone(e.Xattrs)
	for i := range all {
		if isACL(all[i].Name) {
			all[i].Value = x.w.acl(all[i].Value, e.ACLNames)
		}
	}
	return slices.DeleteFunc(all, func(a manifest.Xattr) bool { return !wanted(a.Name, x.w.euid == 0) })
}
