package xtrabackup

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/transferpy/transferpy/plugins/modes/preflight"
	"github.com/transferpy/transferpy/sdk"
)

// A connection is named by the hexadecimal form of its name, so that no name
// can be taken for something else by the shell or by the server.

// changeScript stops or starts replication. $4 is the client, $5 stop or start,
// then for each connection its name and what ran: both, io or sql. Each is
// looked at afterwards until it is as wanted, twice in a row, since a thread that
// starts may meet its error at once; for 30 s at most. It goes on
// with the others where one fails, prints the reason and exits 1 in the end;
// what is as wanted already stays so.
const changeScript = sqlScript + `client=$4 what=$5
shift 5
failed=0
while [ $# -ge 2 ]; do
name=$1 threads=$2
shift 2
on="set default_master_connection=x'$name'"
case $what$threads in
stop*) do='stop slave' want='No No' ;;
startio) do='start slave io_thread' want='Yes *' ;;
startsql) do='start slave sql_thread' want='* Yes' ;;
*) do='start slave' want='Yes Yes' ;;
esac
if ! out=$(sql -e "$on; $do" 2>&1); then
printf '%s\n' "$out" | grep '^ERROR' >&2 || printf '%s\n' "$out" | head -n 3 >&2
echo "by hand: $client --socket=$sock -e \"$on; $do\"" >&2
failed=1
continue
fi
tries=0 is= held=0
while [ $tries -lt 60 ]; do
is=$(sql -e "$on; show slave status" 2>/dev/null | awk -F '\t' 'NR==1 {for (i=1; i<=NF; i++) at[$i]=i; next} {print $at["Slave_IO_Running"] " " $at["Slave_SQL_Running"]}')
case ${is% *} in No) io=No ;; '') io= ;; *) io=Yes ;; esac
case $want in
'No No') [ "$is" = 'No No' ] ;;
'Yes Yes') [ "$io ${is#* }" = 'Yes Yes' ] ;;
'Yes *') [ "$io" = Yes ] ;;
'* Yes') [ "${is#* }" = Yes ] ;;
esac && held=$((held + 1)) || held=0
[ "$held" -lt 2 ] || break
tries=$((tries + 1))
sleep 0.5
done
if [ $tries -ge 60 ]; then
echo "after $do the threads (IO, SQL) are: $is" >&2
sql -e "$on; show slave status\G" 2>/dev/null | grep -E ' Last_(IO|SQL)_Err(no|or): .' | grep -v ': 0$' | head -n 4 >&2
echo "by hand: $client --socket=$sock -e \"$on; $do\"" >&2
failed=1
fi
done
exit $failed`

// statusScript prints the connections, as lookScript does. $4 is the client.
const statusScript = sqlScript + `client=$4
out=$(sql -e 'show all slaves status') && printf '%s\n' "$out" | status`

// changeTime bounds stopping and starting: a SQL thread may be in the middle of
// a large transaction.
const changeTime = 10 * time.Minute

// Begin stops the connections and threads that run, and has exactly these
// started again when nothing is read any more.
func (m *mode) Begin(ctx context.Context, t sdk.Transfer, host sdk.Host) error {
	socket, _, err := preflight.Paths(t, usage)
	if err != nil {
		return err
	}
	client := sdk.Raw(m.client)
	if client == "" {
		client = "mariadb"
	}
	ran, failed := m.running(ctx, t, socket, &client, host)
	if failed != nil || len(ran) == 0 {
		return failed
	}
	change := func(what string) sdk.Command {
		args := []string{string(socket), m.user, m.defaults, string(client), what}
		for _, r := range ran {
			args = append(args, hex.EncodeToString([]byte(r.name)), r.threads())
		}
		return sdk.Command{Argv: script(changeScript, args...), Timeout: changeTime}
	}
	results, failure := host.Change(ctx, []sdk.HostChange{{
		Host: t.Source.Host,
		Undo: sdk.Undo{ID: "start-replication", What: "start replication again: " + words(ran), When: sdk.WhenSourceDone,
			Commands: []sdk.Command{change("start")}},
		Commands: []sdk.Command{change("stop")},
	}})
	if failure != nil {
		return failure
	}
	return failedResult(results, t.Source.Host, "replication could not be stopped ("+words(ran)+")")
}

// running asks what runs now; client becomes mysql where there is no mariadb.
func (m *mode) running(ctx context.Context, t sdk.Transfer, socket sdk.Raw, client *sdk.Raw, host sdk.Host) ([]replica, error) {
	for {
		results, err := host.Run(ctx, []sdk.HostCommands{{Host: t.Source.Host, Commands: []sdk.Command{{
			Argv: script(statusScript, string(socket), m.user, m.defaults, string(*client)), Timeout: time.Minute}}}})
		if err != nil {
			return nil, err
		}
		if m.client == "" && *client == "mariadb" && len(results) == 1 && len(results[0].Results) == 1 && results[0].Results[0].ExitCode == 127 {
			*client = "mysql"
			continue
		}
		if err := failedResult(results, t.Source.Host, "the state of replication could not be asked for"); err != nil {
			return nil, err
		}
		s, err := parseServer(string(results[0].Results[0].Stdout))
		return running(s.replicas), err
	}
}

// threads says what ran, for changeScript.
func (r replica) threads() string {
	switch {
	case !r.sql:
		return "io"
	case !r.io:
		return "sql"
	}
	return "both"
}

// failedResult is the failure of the one command that ran, as what could not be
// done.
func failedResult(results []sdk.HostResults, host, what string) error {
	if len(results) != 1 {
		return &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: what + ": the host told nothing"}
	}
	h := results[0]
	if h.Err != nil {
		return h.Err
	}
	if len(h.Results) != 1 {
		return &sdk.Error{Kind: sdk.KindInternal, Host: host, Message: what + ": the host told nothing"}
	}
	r := h.Results[0]
	if r.Err != nil {
		return r.Err
	}
	if r.ExitCode != 0 {
		first, _, _ := strings.Cut(strings.TrimSpace(string(r.Stderr)), "\n")
		return &sdk.Error{Kind: sdk.KindPermission, Host: host, Message: fmt.Sprintf("%s: %s", what, sdk.Raw(first).Display()),
			Hint: "see SHOW ALL SLAVES STATUS there; what was stopped is started again", Stderr: string(r.Stderr)}
	}
	return nil
}
