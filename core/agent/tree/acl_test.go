package tree

import (
	"encoding/hex"
	"testing"

	"github.com/transferpy/transferpy/core/agent/manifest"
	"github.com/transferpy/transferpy/core/agent/tree/treetest"
)

// TestACLByName: users and groups in ACLs follow the rule of owners.
func TestACLByName(t *testing.T) {
	acl := treetest.ACL(6, 4, 5, 7, 1) // names user 2, user 40000 and group 3
	known := []manifest.ACLName{{ID: 2, Name: "daemon"}, {ID: 40000, Name: "nobody-knows-this"}, {Group: true, ID: 3, Name: "daemon"}}
	for opt, ids := range map[string]string{"": "01000000 409c0000 01000000", "numeric": "02000000 409c0000 03000000", "7:8": "01000000 409c0000 01000000"} {
		w, err := newOwner(SinkOptions{Owner: opt, Root: true})
		check(t, err)
		b := hex.EncodeToString([]byte(w.acl(acl, known)))[2*aclHead:]
		if now := b[24:32] + " " + b[40:48] + " " + b[72:80]; now != ids {
			t.Errorf("%q: %s instead of %s", opt, now, ids)
		}
	}
	if p := groupPermissions(acl); p != 5 {
		t.Errorf("the group has %o", p)
	}
}

// FuzzACL: numbers that stay the same leave all as it is, whatever it is.
func FuzzACL(f *testing.F) {
	f.Add([]byte(treetest.ACL(6, 4, 5, 7, 1)))
	f.Add([]byte{2, 0, 0, 0, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		was := string(b)
		eachACLID(b, func(_ bool, id uint32) uint32 { return id })
		if string(b) != was || groupPermissions(was) > 7 {
			t.Errorf("%x became %x", was, b)
		}
	})
}
