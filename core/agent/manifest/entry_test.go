package manifest

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/transferpy/transferpy/sdk"
)

// deepPath is longer than PATH_MAX and as long as a path may be.
func deepPath() sdk.Raw {
	return sdk.Raw(strings.Repeat(strings.Repeat("d", MaxNameLen)+"/", MaxPathLen/(MaxNameLen+1)-1) + "f")
}

func samples() []Entry {
	return []Entry{
		{Path: "a", Type: sdk.FileRegular, Mode: 0o644, Size: 5},
		{Path: "a/b c/\xff\n-x", Type: sdk.FileDirectory, Mode: 0o7777, UID: 1<<32 - 1, GID: 7, Owner: "mysql", Group: "staff", MTimeSec: -3, MTimeNsec: 999999999},
		{Path: "l", Type: sdk.FileSymlink, Link: "../../\x01"},
		{Path: "s", Type: sdk.FileRegular, Size: -1, Stream: true},
		{Path: "h", Type: sdk.FileRegular, Size: 1 << 50, HardLink: 12},
		{Path: "dev", Type: sdk.FileBlockDev, Rdev: 1 << 60},
		{Path: deepPath(), Type: sdk.FileRegular},
		{Path: "new", Type: sdk.FileRegular, Extra: []byte{tagUnknown, 2, 'x', 'y', 40, 0}},
		{Path: "x", Type: sdk.FileRegular, Xattrs: []Xattr{{"security.capability", "\x01\x00"}, {"user.", ""}, {"user.\xff", strings.Repeat("v", MaxXattrLen)}}},
		{Path: "acl", Type: sdk.FileDirectory, Xattrs: []Xattr{{"system.posix_acl_default", "\x02"}}, ACLNames: []ACLName{{false, 7, "lp"}, {true, 0, "root"}, {true, 1<<32 - 1, strings.Repeat("g", MaxOwnerLen)}}},
		{Path: sdk.Raw(strings.Repeat("n", MaxNameLen)), Type: sdk.FileFifo, Owner: strings.Repeat("o", MaxOwnerLen)},
	}
}

func TestEntryRoundTrip(t *testing.T) {
	var all []byte
	for _, e := range samples() {
		before := len(all)
		var err error
		if all, err = AppendEntry(all, &e); err != nil {
			t.Fatal(err)
		}
		got, rest, err := DecodeEntry(all[before:])
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(got, e) {
			t.Errorf("%.40q: got %+v, %v", string(e.Path), got, err)
		}
		if len(all)-before > MaxEntryLen {
			t.Errorf("record of %d bytes", len(all)-before)
		}
	}
	for _, want := range samples() {
		var e Entry
		var err error
		if e, all, err = DecodeEntry(all); err != nil || e.Path != want.Path {
			t.Fatalf("in a row: %v", err)
		}
	}
}

func TestEntryRefused(t *testing.T) {
	good := Entry{Path: "a", Type: sdk.FileRegular}
	for what, change := range map[string]func(*Entry){
		"no path":         func(e *Entry) { e.Path = "" },
		"absolute":        func(e *Entry) { e.Path = "/a" },
		"up":              func(e *Entry) { e.Path = "a/../b" },
		"only up":         func(e *Entry) { e.Path = ".." },
		"dot":             func(e *Entry) { e.Path = "./a" },
		"double slash":    func(e *Entry) { e.Path = "a//b" },
		"slash at end":    func(e *Entry) { e.Path = "a/" },
		"NUL":             func(e *Entry) { e.Path = "a\x00b" },
		"name of 256":     func(e *Entry) { e.Path = sdk.Raw(strings.Repeat("x", 256)) },
		"path too long":   func(e *Entry) { e.Path = sdk.Raw(strings.Repeat("x/", MaxPathLen/2) + "xx") },
		"no type":         func(e *Entry) { e.Type = "" },
		"mode":            func(e *Entry) { e.Mode = 0o10000 },
		"negative size":   func(e *Entry) { e.Size = -2 },
		"unknown size":    func(e *Entry) { e.Size = -1 },
		"directory size":  func(e *Entry) { e.Type, e.Size = sdk.FileDirectory, 1 },
		"link on a file":  func(e *Entry) { e.Link = "x" },
		"symlink to none": func(e *Entry) { e.Type = sdk.FileSymlink },
		"long link":       func(e *Entry) { e.Type, e.Link = sdk.FileSymlink, sdk.Raw(strings.Repeat("x", MaxLinkLen+1)) },
		"nanoseconds":     func(e *Entry) { e.MTimeNsec = 1e9 },
		"owner":           func(e *Entry) { e.Owner = strings.Repeat("x", MaxOwnerLen+1) },
		"device number":   func(e *Entry) { e.Rdev = 1 },
		"stream of a dir": func(e *Entry) { e.Type, e.Stream = sdk.FileDirectory, true },
		"linked dir":      func(e *Entry) { e.Type, e.HardLink = sdk.FileDirectory, 1 },
		"linked stream":   func(e *Entry) { e.Stream, e.HardLink = true, 1 },
		"link with xattr": func(e *Entry) { e.HardLink, e.Xattrs = 1, []Xattr{{"user.a", ""}} },
		"xattr order":     func(e *Entry) { e.Xattrs = []Xattr{{"user.b", ""}, {"user.a", ""}} },
		"xattr twice":     func(e *Entry) { e.Xattrs = []Xattr{{"user.a", ""}, {"user.a", ""}} },
		"xattr name":      func(e *Entry) { e.Xattrs = []Xattr{{"user.\x00", ""}} },
		"xattr no name":   func(e *Entry) { e.Xattrs = []Xattr{{"", "x"}} },
		"xattr value":     func(e *Entry) { e.Xattrs = []Xattr{{"user.a", strings.Repeat("v", MaxXattrLen+1)}} },
		"many xattrs":     func(e *Entry) { e.Xattrs = manyXattrs() },
		"ACL order":       func(e *Entry) { e.ACLNames = []ACLName{{true, 1, "a"}, {false, 2, "b"}} },
		"ACL name":        func(e *Entry) { e.ACLNames = []ACLName{{true, 1, ""}} },
		"known extra":     func(e *Entry) { e.Extra = []byte{tagRdev, 1, 1} },
		"torn extra":      func(e *Entry) { e.Extra = []byte{tagUnknown, 9, 1} },
	} {
		e := good
		change(&e)
		if b, err := AppendEntry([]byte("kept"), &e); err == nil || string(b) != "kept" {
			t.Errorf("%s: taken (%v)", what, err)
		}
	}
}

// manyXattrs are more than an entry may have.
func manyXattrs() []Xattr {
	var all []Xattr
	for i := range MaxXattrsLen / MaxXattrLen {
		all = append(all, Xattr{"user." + string(rune('a'+i)), strings.Repeat("v", MaxXattrLen)})
	}
	return all
}

func TestDecodeCutShort(t *testing.T) {
	for _, e := range samples() {
		b, _ := AppendEntry(nil, &e)
		for n := 0; n < len(b); n += 1 + len(b)/500 {
			if _, _, err := DecodeEntry(b[:n]); err == nil {
				t.Fatalf("%.20q cut at %d of %d is taken", string(e.Path), n, len(b))
			}
		}
	}
}

// FuzzDecodeEntry: what decodes encodes to the same bytes.
func FuzzDecodeEntry(f *testing.F) {
	for _, e := range samples() {
		b, _ := AppendEntry(nil, &e)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := DecodeEntry(b)
		if err != nil {
			return
		}
		again, err := AppendEntry(nil, &e)
		if err != nil || !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatalf("%x decodes to %+v and encodes to %x, %v", b, e, again, err)
		}
	})
}
