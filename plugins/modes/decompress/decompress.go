// Package decompress is the mode that recovers a snapshot: an archive of one
// directory, compressed or not, is sent as it is and unpacked into an empty
// directory of each target.
package decompress

import (
	"context"
	"fmt"
	"time"

	"github.com/transferpy/transferpy/plugins/modes/preflight"
	"github.com/transferpy/transferpy/sdk"
)

type mode struct {
	requireInfo  bool
	strip        bool
	outsideLinks bool
}

// New returns the mode.
func New() sdk.Mode { return &mode{} }

// infoFiles are what proves a backup complete, by the names that versions of
// mariadb-backup give it.
var infoFiles = []sdk.Raw{"xtrabackup_info", "mariadb_backup_info"}

// infoLine is in it when the backup came to its end.
const infoLine = `^end_time = [0-9]`

// Describe implements sdk.Plugin.
func (*mode) Describe() sdk.Description {
	return sdk.Description{
		Kind: sdk.KindMode, Name: "decompress", Version: sdk.Version,
		Summary: "unpacks a .tar.gz, .tar.zst or .tar snapshot into an empty directory",
		Fields: []sdk.Field{
			{Name: "require_info", Type: sdk.TypeBool, Default: "yes", Help: "the snapshot must hold a database backup's xtrabackup_info or mariadb_backup_info; no: any archive will do"},
			{Name: "strip", Type: sdk.TypeBool, Default: "yes", Help: "the archive holds a single directory, whose own name is left out; no: all is unpacked as it is"},
			{Name: "outside_links", Type: sdk.TypeBool, Default: "no", Help: "allow symbolic links in the archive that lead out of it"},
		},
	}
}

// Configure implements sdk.Plugin.
func (m *mode) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	m.requireInfo, m.strip, m.outsideLinks = v.Bool("require_info"), v.Bool("strip"), v.Bool("outside_links")
	return nil, nil
}

const usage = "mode decompress unpacks HOST:/absolute/path/of.tar.gz into HOST:/empty/directory"

// Names of the questions.
const (
	askSource = "source"
	askHead   = "head"
)

func askDir(i int) string { return fmt.Sprintf("dir-%d", i) }

// headLen is how much of the source is looked at: what a tar's header needs.
const headLen = 512

// headScript prints the first $2 bytes of the file $1 in hexadecimal. It reads
// only.
const headScript = `head -c "$2" -- "$1" | od -An -v -tx1`

// Questions asks for the archive and its first bytes, and for the target
// directories.
func (m *mode) Questions(_ context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	source, dirs, err := preflight.Paths(t, usage)
	if err != nil {
		return nil, err
	}
	var q preflight.Questions
	of := q.Of(t.Source.Host)
	of.Paths = append(of.Paths, sdk.PathQuestion{ID: askSource, Path: source})
	of.Commands = append(of.Commands, sdk.CommandQuestion{ID: askHead, Command: sdk.Command{
		Argv: []sdk.Raw{"sh", "-c", headScript, "sh", source, sdk.Raw(fmt.Sprint(headLen))}, Timeout: 20 * time.Second}})
	for i, target := range t.Targets {
		of := q.Of(target.Host)
		of.Paths = append(of.Paths, sdk.PathQuestion{ID: askDir(i), Path: dirs[i]})
	}
	return q.All(), nil
}

// Inspect judges the answers.
func (m *mode) Inspect(_ context.Context, t sdk.Transfer, answers []sdk.Answers, _ sdk.Host) (sdk.Findings, error) {
	source, dirs, err := preflight.Paths(t, usage)
	if err != nil {
		return sdk.Findings{}, err
	}
	in := preflight.New(t, answers)
	if f, ok := in.Facts(t.Source.Host, askSource, "source", source); ok && in.Readable(f, source, false) {
		m.inspectArchive(in, source, f)
	}
	for i, target := range t.Targets {
		in.Once(i, dirs)
		if f, ok := in.Facts(target.Host, askDir(i), "target directory", dirs[i]); ok {
			in.Directory(target.Host, dirs[i], f)
			in.Empty(target.Host, dirs[i], f)
		}
	}
	if !m.requireInfo {
		in.Warn("whether the archive is a database's backup is not checked (require_info = no)")
	}
	return in.Found, nil
}

// inspectArchive says what the archive is by its content, and how much comes
// out of it, as far as that can be had without reading all of it.
func (m *mode) inspectArchive(in *preflight.Inspection, source sdk.Raw, f sdk.PathFacts) {
	host := in.Transfer.Source.Host
	r, ok := in.Answer(host, askHead)
	if !ok {
		in.Refuse(sdk.KindMissingTool, host, "head and od of coreutils must be there", "the beginning of the source %s could not be looked at", source.Display())
		return
	}
	a, err := look(string(r.Stdout), f.Size)
	if err != nil {
		in.Refuse(sdk.KindUnsupported, host, "name a .tar.gz, .tar.zst or .tar", "the source %s %v", source.Display(), err)
		return
	}
	in.Found.Bytes, in.Found.AtLeast = a.bytes, a.atLeast
	in.Found.Facts = map[string]string{"format": a.format, "size": fmt.Sprint(f.Size)}
	if a.atLeast {
		in.Warn("%s:%s is %s, which does not tell how much comes out of it: at least %s; a target that runs full ends the transfer, and nothing is left there",
			host, source.Display(), a.format, preflight.Size(a.bytes))
	}
}

// Plan sends the file as it is.
func (m *mode) Plan(_ context.Context, t sdk.Transfer, found sdk.Findings) (sdk.Plan, error) {
	source, dirs, err := preflight.Paths(t, usage)
	if err != nil {
		return sdk.Plan{}, err
	}
	how := &sdk.Unpack{Strip: m.strip, OutsideLinks: m.outsideLinks}
	if m.requireInfo {
		how.Proof, how.ProofLine = infoFiles, infoLine
	}
	size := int64(-1)
	_, _ = fmt.Sscan(found.Facts["size"], &size) // what is no number is not known
	plan := sdk.Plan{
		Read:       sdk.Stage{Builtin: sdk.BuiltinFile, Path: source},
		Write:      sdk.Stage{Builtin: sdk.BuiltinUnpackTar, Unpack: how},
		Bytes:      size,
		Compressed: found.Facts["format"] != formatTar,
		Verify:     []sdk.Verify{sdk.VerifyDisk, sdk.VerifyStream},
	}
	for i, target := range t.Targets {
		plan.Targets = append(plan.Targets, sdk.Destination{Dir: dirs[i], MustEmpty: true, Last: infoFiles})
		plan.Notes = append(plan.Notes, fmt.Sprintf("%s:%s (%s) is unpacked into %s:%s",
			t.Source.Host, source.Display(), found.Facts["format"], target.Host, dirs[i].Display()))
	}
	return plan, nil
}

// Begin does nothing: Plan does not ask for it.
func (*mode) Begin(context.Context, sdk.Transfer, sdk.Host) error { return nil }

// Finish does nothing: the proof is asked for before anything is published.
func (*mode) Finish(context.Context, sdk.Transfer, sdk.Outcome, sdk.Host) error { return nil }
