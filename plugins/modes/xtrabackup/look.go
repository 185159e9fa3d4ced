package xtrabackup

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// sqlScript defines sql, which asks the server; $1 to $3 are the socket, the
// user and a defaults file, and $client is found before. It is the beginning of
// all scripts here.
const sqlScript = `sock=$1 user=$2 defaults=$3
sql() {
"$client" ${defaults:+"--defaults-file=$defaults"} --socket="$sock" ${user:+"--user=$user"} --connect-timeout=10 --batch "$@" </dev/null
}
status() {
awk -F '\t' 'NR==1 {for (i=1; i<=NF; i++) at[$i]=i; next}
{print "replica\t" $at["Slave_IO_Running"] "\t" $at["Slave_SQL_Running"] "\t" $at["Connection_name"]}'
}
`

// lookScript prints what there is to know about a server, a line each: a key, a
// tab, the value. It reads only. $4 and $5 are the tool and the client to use,
// $6 says whether replication is of interest, $7 is a data directory for where
// the server cannot be asked, $8 and $9 how many seconds its bytes and its files
// may take to count.
const lookScript = sqlScript + `tool=$4 wanted=$5 replicas=$6 data=$7 count=$8 again=$9
for t in ${tool:-mariadb-backup mariabackup xtrabackup}; do
p=$(command -v -- "$t") || continue
case $("$p" --version 2>&1 </dev/null | head -c 4096) in
*MariaDB*) printf 'tool\t%s\n' "$p"; break ;;
*) printf 'foreign\t%s\n' "$p" ;;
esac
done
for c in ${wanted:-mariadb mysql}; do
client=$(command -v -- "$c") && break
client=
done
[ -S "$sock" ] || exit 0
if [ -n "$client" ]; then
printf 'client\t%s\n' "$client"
if out=$(sql --skip-column-names -e "select @@version, @@datadir, coalesce(@@log_bin_basename, ''), coalesce(@@relay_log_basename, '')" 2>&1); then
printf 'server\t%s\n' "$out"
data=$(printf '%s\n' "$out" | cut -f 2) binlog=$(printf '%s\n' "$out" | cut -f 3) relay=$(printf '%s\n' "$out" | cut -f 4)
else
printf 'refused\t%s\n' "$(printf '%s\n' "$out" | grep '^ERROR' | head -n 1 | head -c 1000)"
fi
fi
if [ -d "$data" ]; then
printf 'datadir\t%s\n' "$data"
printf 'bytes\t%s\n' "$(timeout "$count" du -sb -- "$data/." 2>/dev/null | cut -f 1)"
printf 'files\t%s\n' "$(timeout "$again" du -s --inodes -- "$data/." 2>/dev/null | cut -f 1)"
for logs in "$binlog" "$relay"; do
case $logs in "${data%/}"/?*) printf 'logs\t%s\n' "$(du -cb -- "$logs".[0-9]* 2>/dev/null | tail -n 1 | cut -f 1)" ;; esac
done
fi
if [ -n "$replicas" ] && [ -n "$client" ]; then
if out=$(sql -e 'show all slaves status' 2>&1); then
printf 'asked\tyes\n'
printf '%s\n' "$out" | status
else
printf 'unasked\t%s\n' "$(printf '%s\n' "$out" | grep '^ERROR' | head -n 1 | head -c 1000)"
fi
fi
exit 0`

// lookTime bounds the look, which is a part of the probe: executors commonly
// allow a call 30 seconds, and a probe ends after 25. Where a data directory
// cannot be counted within countTime its size is not known, and its files, which
// take less when they have just been looked at, are not counted.
const (
	lookTime  = 24 * time.Second
	countTime = 10 // seconds
	againTime = 3
)

// look is the question about the server behind a socket.
func (m *mode) look(socket sdk.Raw, replicas bool) sdk.Command {
	ask := ""
	if replicas {
		ask = "yes"
	}
	data := m.datadir
	if data == "" {
		data = conventional(string(socket))
	}
	return sdk.Command{Timeout: lookTime, Argv: script(lookScript, string(socket), m.user, m.defaults, m.tool, m.client, ask, data, strconv.Itoa(countTime), strconv.Itoa(againTime))}
}

// script makes a command of a script of sh and its arguments.
func script(text string, args ...string) []sdk.Raw {
	argv := []sdk.Raw{"sh", "-c", sdk.Raw(text), "sh"}
	for _, a := range args {
		argv = append(argv, sdk.Raw(a))
	}
	return argv
}

// conventional is where transfer.py looks for the data directory of a socket:
// mysqld.sock has /srv/sqldata, mysqld.s1.sock /srv/sqldata.s1. Empty for other
// names.
func conventional(socket string) string {
	name := socket[strings.LastIndexByte(socket, '/')+1:]
	stem, isSocket := strings.CutSuffix(name, ".sock")
	section, ours := strings.CutPrefix(stem, "mysqld")
	if !isSocket || !ours || section != "" && (section[0] != '.' || section == ".") {
		return ""
	}
	return "/srv/sqldata" + section
}

// server is what lookScript has found.
type server struct {
	tool, foreign, client string
	version, datadir      string
	refused               string // why the server did not answer
	bytes, files          int64  // -1: unknown
	replicas              []replica
	asked                 bool   // for replicas
	unasked               string // why they could not be asked for
}

// replica is one replication connection.
type replica struct {
	name    string
	io, sql bool // which threads ran
}

// maxReplicas bounds what a server is believed to have.
const maxReplicas = 256

// parseServer reads the output of lookScript.
func parseServer(output string) (server, error) {
	s := server{bytes: -1, files: -1}
	logs := int64(0)
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		n, err := strconv.ParseInt(value, 10, 64)
		number := err == nil && n >= 0
		switch {
		case key == "tool":
			s.tool = value
		case key == "foreign":
			s.foreign = value
		case key == "client":
			s.client = value
		case key == "server":
			s.version, _, _ = strings.Cut(value, "\t")
		case key == "refused":
			s.refused = value
		case key == "datadir":
			s.datadir = value
		case key == "bytes" && number:
			s.bytes = n
		case key == "files" && number:
			s.files = n
		case key == "logs" && number:
			logs += n
		case key == "asked":
			s.asked = true
		case key == "unasked":
			s.unasked = value
		case key == "replica":
			r, err := parseReplica(value)
			if err != nil {
				return s, err
			}
			s.replicas = append(s.replicas, r)
		}
	}
	if len(s.replicas) > maxReplicas {
		return s, fmt.Errorf("the server has more than %d replication connections", maxReplicas)
	}
	if s.bytes >= 0 {
		s.bytes = max(s.bytes-logs, 0)
	}
	return s, nil
}

// parseReplica reads what the client prints of a connection in batch mode.
func parseReplica(value string) (replica, error) {
	words := strings.SplitN(value, "\t", 3)
	if len(words) != 3 || words[0] == "" || words[1] == "" {
		return replica{}, fmt.Errorf("the state of replication cannot be understood: %.200q", value)
	}
	// IO may be Connecting or Preparing: it runs all the same.
	name := strings.NewReplacer(`\\`, `\`, `\t`, "\t", `\n`, "\n", `\0`, "\x00").Replace(words[2])
	return replica{name: name, io: words[0] != "No", sql: words[1] != "No"}, nil
}

// running are the connections of which something runs.
func running(list []replica) []replica {
	var out []replica
	for _, r := range list {
		if r.io || r.sql {
			out = append(out, r)
		}
	}
	return out
}

// words tells connections to people.
func words(list []replica) string {
	var out []string
	for _, r := range list {
		text := strconv.Quote(r.name)
		if r.name == "" {
			text = "the default connection"
		}
		switch {
		case !r.sql:
			text += " (IO thread only)"
		case !r.io:
			text += " (SQL thread only)"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}
