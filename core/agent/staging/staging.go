// Package staging keeps the data of one target apart until it is verified,
// and publishes it as a whole: DIR/.transferpy-TRANSFER-MEMBER/ inside the
// target directory, so that publishing is a rename.
//
// The staging directory (0700) holds
//
//	data/        what will be published; {staging} of commands
//	meta/        what the agent keeps beside it: the manifest, received parts
//	lock         held by flock as long as the member's agent lives
//	spec         the Spec, for other transfers into the same directory
//	commit       the COMMIT record: from here on, forward only
//	commit.done  how many of an external destination's commands are done
//	kept-N/      data and meta of earlier attempts that were kept, the newest
//	             with the highest N; nothing of them is published
package staging

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// prefix begins the names of all staging directories.
const prefix = ".transferpy-"

// Names inside a staging directory.
const (
	nameData   = "data"
	nameMeta   = "meta"
	nameLock   = "lock"
	nameSpec   = "spec"
	nameCommit = "commit"
	nameDone   = "commit.done"
	keptPrefix = "kept-"
)

// Spec says whose staging directory it is and what becomes of it. It is all
// that Settle needs, so an undo record carries it.
type Spec struct {
	Transfer string          `json:"transfer"` // [A-Za-z0-9._-], at most 64 bytes
	Member   string          `json:"member"`   // likewise
	Dest     sdk.Destination `json:"dest"`
}

// Name returns the name of the staging directory inside Dest.Dir.
func (s *Spec) Name() string { return s.family() + s.Member }

// family begins the names of all staging directories of the transfer.
func (s *Spec) family() string { return Family(s.Transfer) }

// Family begins the names of all staging directories of a transfer.
func Family(transfer string) string { return prefix + transfer + "-" }

// Path returns the absolute path of the staging directory.
func (s *Spec) Path() string { return path.Join(string(s.Dest.Dir), s.Name()) }

// DataPath returns the absolute path of what will be published: what
// {staging} stands for.
func (s *Spec) DataPath() string { return path.Join(s.Path(), nameData) }

// Expand puts the data path in place of every {staging} in arg.
func (s *Spec) Expand(arg sdk.Raw) sdk.Raw {
	return sdk.Raw(strings.ReplaceAll(string(arg), "{staging}", s.DataPath()))
}

// validate refuses what would lead out of Dest.Dir.
func (s *Spec) validate() error {
	bad := func(what string) error {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "staging: " + what}
	}
	if !isToken(s.Transfer) || !isToken(s.Member) {
		return bad("transfer and member must be made of letters, digits, '.', '_' and '-'")
	}
	if !path.IsAbs(string(s.Dest.Dir)) || strings.IndexByte(string(s.Dest.Dir), 0) >= 0 {
		return bad("the target directory " + s.Dest.Dir.Display() + " is not an absolute path")
	}
	seen := make(map[sdk.Raw]bool, len(s.Dest.Publish))
	for _, name := range s.Dest.Publish {
		if err := checkName(name); err != nil {
			return err
		}
		if seen[name] {
			return bad("the name " + name.Display() + " is to be published twice")
		}
		seen[name] = true
	}
	return nil
}

func isToken(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return s != "" && len(s) <= 64 && strings.Trim(s, allowed) == ""
}

// checkName refuses what is no name of an entry in a directory, and what
// would be taken for a staging directory.
func checkName(name sdk.Raw) error {
	s := string(name)
	if s == "" || s == "." || s == ".." || len(s) > 255 || strings.ContainsAny(s, "/\x00") || strings.HasPrefix(s, prefix) {
		return &sdk.Error{Kind: sdk.KindConfig, Message: "cannot publish the name " + name.Display()}
	}
	return nil
}

// Staging is an open staging directory with its lock.
type Staging struct {
	spec Spec
	dir  *os.File // the target directory
	self *os.File
	data *os.File
	lock *os.File

	// noFlags is set where the file system cannot rename without replacing.
	noFlags bool
	// at is called at the points at which a crash matters; tests stop here.
	at func(point string) error
}

// Data returns the directory of what will be published. The Staging owns it.
func (s *Staging) Data() *os.File { return s.data }

// Path returns the absolute path of Data: what {staging} stands for.
func (s *Staging) Path() string { return s.spec.DataPath() }

// MetaPath returns the absolute path of the directory for what the agent keeps
// beside the data.
func (s *Staging) MetaPath() string { return path.Join(s.spec.Path(), nameMeta) }

// Spec returns what the staging directory was created with.
func (s *Staging) Spec() Spec { return s.spec }

// Sync has the disk keep all that was written to the file system. One call
// for all files costs far less than one a file.
func (s *Staging) Sync() error {
	return diskerr.New("cannot flush the file system of", s.spec.Dest.Dir, unix.Syncfs(int(s.dir.Fd())))
}

// Close gives up the lock and leaves everything as it is. It does nothing
// after Publish has succeeded or another Close.
func (s *Staging) Close() error {
	var first error
	for _, f := range []**os.File{&s.data, &s.lock, &s.self, &s.dir} {
		if *f == nil {
			continue
		}
		if err := (*f).Close(); err != nil && first == nil {
			first = diskerr.New("cannot close", sdk.Raw((*f).Name()), err)
		}
		*f = nil
	}
	return first
}

// reached marks a point at which a crash matters.
func (s *Staging) reached(point string) error {
	if s.at == nil {
		return nil
	}
	return s.at(point)
}
