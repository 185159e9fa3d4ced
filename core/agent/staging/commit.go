package staging

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/diskerr"
	"github.com/transferpy/transferpy/sdk"
)

// recordVersion is the version of the COMMIT record.
const recordVersion = 1

// record is the COMMIT record: what is left to be done once it is on disk.
type record struct {
	V        int           `json:"v"`
	Transfer string        `json:"transfer"`
	Member   string        `json:"member"`
	Names    []committed   `json:"names,omitempty"`    // staged, in order
	Commands []sdk.Command `json:"commands,omitempty"` // external, in order
}

// committed is one name to be published.
type committed struct {
	Name sdk.Raw `json:"name"`
	Dev  uint64  `json:"dev"` // at the time; not compared, since another boot may number otherwise
	Ino  uint64  `json:"ino"`
	Dir  bool    `json:"dir,omitempty"`
	Mode uint32  `json:"mode"` // final, 0..07777
}

// readRecord returns the COMMIT record; nil if there is none.
func (s *Staging) readRecord() (*record, error) {
	content, err := readFile(s.self, nameCommit)
	if errors.Is(err, sdk.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(content)
	if err != nil {
		return nil, diskerr.New("cannot understand", pathIn(s.self, nameCommit), err)
	}
	if r.Transfer != s.spec.Transfer || r.Member != s.spec.Member {
		return nil, &sdk.Error{
			Kind:    sdk.KindIntegrity,
			Message: pathIn(s.self, nameCommit).Display() + " is of transfer " + strconv.Quote(r.Transfer) + ", member " + strconv.Quote(r.Member),
			Hint:    "somebody moved it there; look at it before you remove it",
		}
	}
	return r, nil
}

// decodeRecord decodes a COMMIT record and checks that its names stay in the
// target directory.
func decodeRecord(content []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return nil, err
	}
	if r.V != recordVersion {
		return nil, &sdk.Error{
			Kind:    sdk.KindUnsupported,
			Message: "the COMMIT record has version " + strconv.Itoa(r.V) + "; this agent knows " + strconv.Itoa(recordVersion),
			Hint:    "use the transferpy that made it",
		}
	}
	for _, c := range r.Names {
		if err := checkName(c.Name); err != nil {
			return nil, err
		}
		if c.Mode > 0o7777 {
			return nil, errors.New("mode out of bounds")
		}
	}
	return &r, nil
}

// newRecord looks at what is to be published.
func (s *Staging) newRecord() (*record, error) {
	r := &record{V: recordVersion, Transfer: s.spec.Transfer, Member: s.spec.Member}
	if s.spec.Dest.External {
		for _, cmd := range s.spec.Dest.Commit {
			r.Commands = append(r.Commands, s.spec.expand(cmd))
		}
		return r, nil
	}
	names, err := s.toPublish()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(s.data.Fd()), string(name), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, diskerr.New("cannot publish", pathIn(s.data, string(name)), err)
		}
		r.Names = append(r.Names, committed{
			Name: name, Dev: st.Dev, Ino: st.Ino,
			Dir: isDir(&st), Mode: st.Mode & 0o7777,
		})
	}
	return r, nil
}

// maxNames bounds the names that one transfer publishes; above it the record
// would outgrow its own bound.
const maxNames = 8192

// toPublish returns the names in their order. Those of the destination come
// as they are; without any, all there are, sorted.
func (s *Staging) toPublish() ([]sdk.Raw, error) {
	if len(s.spec.Dest.Publish) > 0 {
		return s.spec.Dest.Publish, nil
	}
	var names []sdk.Raw
	err := eachName(s.data, func(name string) error {
		if len(names) == maxNames {
			return &sdk.Error{Kind: sdk.KindUnsupported, Message: "more than " + strconv.Itoa(maxNames) + " names to publish in " + s.spec.Dest.Dir.Display()}
		}
		names = append(names, sdk.Raw(name))
		return checkName(sdk.Raw(name))
	})
	slices.Sort(names)
	for _, last := range s.spec.Dest.Last {
		if i := slices.Index(names, last); i >= 0 {
			names = append(slices.Delete(names, i, i+1), last)
		}
	}
	return names, err
}

// writeRecord has the disk keep the record.
func (s *Staging) writeRecord(r *record) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if len(content) > maxRecord {
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: "too many names to publish in " + s.spec.Dest.Dir.Display()}
	}
	return writeFile(s.self, nameCommit, content)
}

// withdraw removes the record: nothing is published any more.
func (s *Staging) withdraw() error {
	if err := removeFile(s.self, nameCommit); err != nil {
		return err
	}
	return syncDir(s.self)
}

// expand puts the data path into a command.
func (s *Spec) expand(cmd sdk.Command) sdk.Command {
	argv := make([]sdk.Raw, len(cmd.Argv))
	for i, arg := range cmd.Argv {
		argv[i] = s.Expand(arg)
	}
	cmd.Argv = argv
	return cmd
}

// readDone returns how many of the record's commands are done.
func (s *Staging) readDone() (int, error) {
	content, err := readFile(s.self, nameDone)
	if errors.Is(err, sdk.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil || n < 0 {
		return 0, diskerr.New("cannot understand", pathIn(s.self, nameDone), errors.New("not a number"))
	}
	return n, nil
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }
