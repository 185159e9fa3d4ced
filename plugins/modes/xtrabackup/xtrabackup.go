// Package xtrabackup is the mode that copies a running MariaDB server: one hot
// backup by mariadb-backup, streamed into an empty directory of each target and
// unpacked there. It prepares nothing.
package xtrabackup

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/plugins/modes/preflight"
	"github.com/transferpy/transferpy/sdk"
)

type mode struct {
	tool, client string // to be used; empty: they are searched for
	user         string
	defaults     string // a defaults file on the source
	datadir      string // where the server cannot be asked
	parallel     int64
	throttle     int64
	slaveInfo    bool
	closeFiles   bool
	extra        []string
}

// New returns the mode.
func New() sdk.Mode { return &mode{} }

// infoFiles are what a backup ends with, by the names that versions of
// mariadb-backup give it; infoLine is in it.
var infoFiles = []sdk.Raw{"xtrabackup_info", "mariadb_backup_info"}

const infoLine = `^end_time = [0-9]`

// Describe implements sdk.Plugin.
func (*mode) Describe() sdk.Description {
	return sdk.Description{
		Kind: sdk.KindMode, Name: "xtrabackup", Version: sdk.Version,
		Summary: "copies a running MariaDB server, named by its socket, into an empty directory",
		Fields: []sdk.Field{
			{Name: "user", Type: sdk.TypeString, Default: "root", Help: "the server's user that makes the backup; a password belongs into defaults_file"},
			{Name: "defaults_file", Type: sdk.TypeString, Help: "a file on the source with options of [client] and [mariadb-backup], closed to others"},
			{Name: "tool", Type: sdk.TypeString, Help: "mariadb-backup on the source (default: mariadb-backup, mariabackup or MariaDB's xtrabackup)"},
			{Name: "client", Type: sdk.TypeString, Help: "the client program on the source (default: mariadb or mysql)"},
			{Name: "datadir", Type: sdk.TypeString, Help: "the server's data directory, to find the size where there is no client"},
			{Name: "parallel", Type: sdk.TypeInt, Default: "16", Help: "threads that read the server's files"},
			{Name: "throttle", Type: sdk.TypeInt, Default: "0", Help: "read and write operations a second, as mariadb-backup counts them; 0: no limit"},
			{Name: "slave_info", Type: sdk.TypeBool, Default: "yes", Help: "note the replication's coordinates where the server is a replica"},
			{Name: "close_files", Type: sdk.TypeBool, Default: "yes", Help: "keep no more files open than are read; for servers with very many tables"},
			{Name: "extra", Type: sdk.TypeList, Help: "further arguments of mariadb-backup, for example --incremental-lsn=NUMBER; no passwords"},
		},
	}
}

// Configure implements sdk.Plugin.
func (m *mode) Configure(_ context.Context, v sdk.Values) ([]sdk.Diagnostic, error) {
	*m = mode{tool: v.String("tool"), client: v.String("client"), user: v.String("user"), defaults: v.String("defaults_file"),
		datadir: v.String("datadir"), parallel: v.Int("parallel"), throttle: v.Int("throttle"), slaveInfo: v.Bool("slave_info"),
		closeFiles: v.Bool("close_files"), extra: v.List("extra")}
	var wrong []sdk.Diagnostic
	refuse := func(field, message string) {
		wrong = append(wrong, sdk.Diagnostic{Field: field, Severity: sdk.SeverityError, Message: message})
	}
	if v.Has("parallel") && (m.parallel < 1 || m.parallel > 256) {
		refuse("parallel", "it is not between 1 and 256")
	}
	if m.throttle < 0 {
		refuse("throttle", "it is negative")
	}
	for _, path := range []struct{ field, value string }{{"defaults_file", m.defaults}, {"datadir", m.datadir}} {
		if _, why := preflight.CleanPath(sdk.Raw(path.value)); path.value != "" && why != "" {
			refuse(path.field, "it "+why)
		}
	}
	for _, arg := range m.extra {
		if why := forbidden(arg); why != "" {
			refuse("extra", shown(arg)+" "+why)
		}
	}
	return wrong, nil
}

// ours are options that this mode gives itself, or with which the tool would do
// something else than send a backup that is unpacked.
var ours = []string{"--backup", "--prepare", "--copy-back", "--move-back", "--export", "--stream", "--target-dir", "--socket", "--user",
	"--compress", "--compress-threads", "--history", "--defaults-file", "--defaults-extra-file", "--defaults-group", "--no-defaults", "--print-defaults"}

// means reports whether the tool takes name for an option: it may be cut short
// as long as it is not ambiguous.
func means(option, name string) bool {
	return name == option || len(name) > len("--pa") && strings.HasPrefix(option, name)
}

// forbidden says why an argument is not passed on; empty if it may be.
func forbidden(arg string) string {
	name, _, _ := strings.Cut(strings.ReplaceAll(arg, "_", "-"), "=")
	switch {
	case !strings.HasPrefix(arg, "--") || arg == "--" || strings.ContainsRune(arg, 0):
		return "does not begin with --"
	case means("--password", name) || strings.HasPrefix(name, "--pass"):
		return "would show a password to everybody on the host: put it into a file, defaults_file"
	}
	for _, option := range ours {
		if means(option, name) {
			return "cannot be given: the stream would not be what is unpacked"
		}
	}
	return ""
}

// shown is an argument without its value; a short one may be all value.
func shown(arg string) string {
	if !strings.HasPrefix(arg, "--") {
		return "an argument"
	}
	name, _, _ := strings.Cut(arg, "=")
	return name
}

const usage = "mode xtrabackup copies the server of HOST:/path/to/its.sock into HOST:/empty/directory"

// Names of the questions.
const (
	askSocket = "socket"
	askServer = "server"
)

func askDir(i int) string { return fmt.Sprintf("dir-%d", i) }

// Questions asks for the tool, the server and its size, and for the target
// directories.
func (m *mode) Questions(_ context.Context, t sdk.Transfer) ([]sdk.HostQuestions, error) {
	socket, dirs, err := preflight.Paths(t, usage)
	if err != nil {
		return nil, err
	}
	var q preflight.Questions
	of := q.Of(t.Source.Host)
	of.Paths = append(of.Paths, sdk.PathQuestion{ID: askSocket, Path: socket})
	of.Commands = append(of.Commands, sdk.CommandQuestion{ID: askServer, Command: m.look(socket, stops(t))})
	for i, target := range t.Targets {
		of := q.Of(target.Host)
		of.Paths = append(of.Paths, sdk.PathQuestion{ID: askDir(i), Path: dirs[i]})
	}
	return q.All(), nil
}

// stops reports whether replication is to be stopped.
func stops(t sdk.Transfer) bool { return t.Options["stop_slave"] == "true" }

// Plan has the tool write to its standard output what targets unpack.
func (m *mode) Plan(_ context.Context, t sdk.Transfer, found sdk.Findings) (sdk.Plan, error) {
	socket, dirs, err := preflight.Paths(t, usage)
	if err != nil {
		return sdk.Plan{}, err
	}
	plan := sdk.Plan{
		Read: sdk.Stage{Command: &sdk.StageCommand{
			Argv:    m.backup(found.Facts["tool"], socket),
			Success: sdk.Success{LastStderrLine: `completed OK!$`},
			// It ignores TERM; what it does not end by INT is killed.
			StopSignal: "INT", StopAfter: 2 * time.Second,
			Progress: `Streaming `,
			// It prints SHOW GRANTS where rights are wanting.
			Redact:  []string{`(?i)IDENTIFIED (BY|VIA|WITH|AS)\b.*`, `(?i)USING ('[^']*'|PASSWORD.*)`},
			KeepLog: true,
		}},
		Write:  sdk.Stage{Builtin: sdk.BuiltinUnpackXbstream, Unpack: &sdk.Unpack{Proof: infoFiles, ProofLine: infoLine}},
		Bytes:  -1,
		Verify: []sdk.Verify{sdk.VerifyDisk, sdk.VerifyStream},
		Begins: stops(t) && found.Facts["replica"] != "",
	}
	if n, err := strconv.ParseInt(found.Facts["bytes"], 10, 64); err == nil {
		plan.Bytes = n
	}
	for i, target := range t.Targets {
		plan.Targets = append(plan.Targets, sdk.Destination{Dir: dirs[i], MustEmpty: true, Last: infoFiles})
		plan.Notes = append(plan.Notes, fmt.Sprintf("the server of %s:%s becomes %s:%s, not prepared", t.Source.Host, socket.Display(), target.Host, dirs[i].Display()))
	}
	if plan.Begins {
		plan.Notes = append(plan.Notes, "stop replication before the backup, and start what ran when it is read: "+found.Facts["replica"])
	}
	return plan, nil
}

// backup is the tool's command line.
func (m *mode) backup(tool string, socket sdk.Raw) []sdk.Raw {
	argv := []sdk.Raw{sdk.Raw(tool)}
	add := func(args ...string) {
		for _, a := range args {
			argv = append(argv, sdk.Raw(a))
		}
	}
	if m.defaults != "" {
		add("--defaults-file=" + m.defaults) // it must be the first
	}
	// Nothing is written to the target directory when it streams.
	add("--backup", "--stream=xbstream", "--target-dir={staging}", "--socket="+string(socket), "--skip-ssl")
	if m.user != "" {
		add("--user=" + m.user)
	}
	if m.parallel > 0 {
		add("--parallel=" + strconv.FormatInt(m.parallel, 10))
	}
	if m.throttle > 0 {
		add("--throttle=" + strconv.FormatInt(m.throttle, 10))
	}
	if m.slaveInfo {
		add("--slave-info")
	}
	if m.closeFiles {
		add("--close-files")
	}
	add(m.extra...)
	return argv
}

// Finish does nothing: the proof is asked for before anything is published.
func (*mode) Finish(context.Context, sdk.Transfer, sdk.Outcome, sdk.Host) error { return nil }
