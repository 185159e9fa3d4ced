package salt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/transferpy/transferpy/plugins/executors/program"
	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/shell"
)

// replies reads what salt prints, one JSON object a line and minion, with
// other lines in between. Its methods are called one at a time.
type replies struct {
	wrapper shell.Wrapper
	nonce   string
	names   map[string][]string // the hosts of the minions that owe an answer
	emit    func(sdk.Result)
	other   []byte // lines that are no answer, or a part of one
}

// line takes one line.
func (r *replies) line(line []byte) {
	if r.document(line) {
		return
	}
	r.other = append(r.other, line[:min(len(line), maxOther-len(r.other))]...)
}

// document takes one JSON object of minions' answers, each of which counts
// once; false if it is something else.
func (r *replies) document(text []byte) bool {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] != '{' {
		return false
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(text, &values) != nil {
		return false
	}
	for id, value := range values {
		names := r.names[id]
		if len(names) == 0 {
			continue // nobody asked it, or it has answered
		}
		delete(r.names, id)
		res := r.answer(id, value)
		for _, host := range names {
			r.tell(host, res)
		}
	}
	return true
}

// tell emits a result under a host's name.
func (r *replies) tell(host string, res sdk.Result) {
	res.Host = host
	if res.Err != nil {
		failed := *res.Err
		failed.Host = host
		res.Err = &failed
	}
	r.emit(res)
}

// ran is what cmd.run_all returns where it has run something.
type ran struct {
	Retcode *int    `json:"retcode"`
	Stdout  *string `json:"stdout"`
	Stderr  string  `json:"stderr"`
}

// answer reads the value under a minion's id. Only an object with the
// wrapper's line is one: salt replaces long output by VALUE_TRIMMED with exit
// code 0, and has strings for whatever goes wrong.
func (r *replies) answer(id string, value json.RawMessage) sdk.Result {
	var did ran
	if json.Unmarshal(value, &did) != nil || did.Retcode == nil || did.Stdout == nil {
		return sdk.Result{Err: refusal(id, value)}
	}
	res, err := r.wrapper.Parse([]byte(*did.Stdout), r.nonce)
	if err == nil {
		return res
	}
	failed := sdk.AsError(err)
	if sudo := shell.SudoRefusal([]byte(did.Stderr)); sudo != nil {
		failed = sudo
	} else if *did.Stdout == "VALUE_TRIMMED" {
		failed = &sdk.Error{Kind: sdk.KindUnsupported, Message: "salt has dropped the minion's answer, which was longer than it carries", Hint: "raise max_event_size in the master's configuration to its default of 1 MiB"}
	} else if failed.Stderr == "" {
		failed.Stderr = program.Tail([]byte(did.Stderr))
	}
	return sdk.Result{Err: failed}
}

// refusal reads what salt says in place of a result.
func refusal(id string, value json.RawMessage) *sdk.Error {
	var text string
	if json.Unmarshal(value, &text) != nil {
		if string(value) == "false" { // so older ones say it
			text = "Minion did not return"
		} else {
			text = "something else than a result: " + string(value[:min(len(value), 100)])
		}
	}
	// The rest is long, and may show the minion's whole environment.
	first, _, _ := strings.Cut(text, "\n")
	first, _, _ = strings.Cut(first, " with the context ")
	first = sdk.Raw(first[:min(len(first), 200)]).Display()
	switch {
	case strings.HasPrefix(text, "Minion did not return"):
		return &sdk.Error{Kind: sdk.KindUnreachable, Message: fmt.Sprintf("the minion %s did not answer: %s", id, first),
			Hint: "is the host up, is its minion running, and its key accepted (salt-key -L)?"}
	case strings.Contains(text, "is not available"):
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("the minion %s: %s", id, first)}
	case strings.Contains(text, "Argument list too long"):
		return &sdk.Error{Kind: sdk.KindUnsupported, Message: fmt.Sprintf("the minion %s: %s", id, first), Hint: "pass the data on stdin"}
	}
	return &sdk.Error{Kind: sdk.KindUnreachable, Message: fmt.Sprintf("the minion %s did not run the command: %s", id, first)}
}

// end reads what came in several lines, when salt has ended, and says what is
// wrong with the hosts without an answer.
func (r *replies) end(out program.Output, runErr error) {
	said := r.documents()
	if len(r.names) == 0 {
		return
	}
	why := silence(said, out, runErr)
	for id, names := range r.names {
		err := *why
		if err.Kind == sdk.KindUnreachable && strings.Contains(said, noMinions) {
			err.Message = fmt.Sprintf("salt knows no minion %s", id)
			err.Hint = "see salt-key -L: its key may not be accepted, or its id be another; the setting id makes ids of host names"
		}
		for _, host := range names {
			r.tell(host, sdk.Result{Err: &err})
		}
	}
	r.names = nil
}

// opening is where a JSON object may begin in what salt says.
var opening = regexp.MustCompile(`(?m)^\{`)

// documents takes the objects that came in several lines each, and returns
// what is left.
func (r *replies) documents() string {
	rest := r.other
	var left []byte
	for {
		at := opening.FindIndex(rest)
		if at == nil {
			break
		}
		left, rest = append(left, rest[:at[0]]...), rest[at[0]:]
		decoder := json.NewDecoder(bytes.NewReader(rest))
		var one json.RawMessage
		if decoder.Decode(&one) != nil {
			left, rest = append(left, rest[0]), rest[1:]
			continue
		}
		r.document(one)
		rest = rest[decoder.InputOffset():]
	}
	return string(append(left, rest...))
}

const noMinions = "No minions matched the target"

// silence says why salt told nothing of a host.
func silence(said string, out program.Output, runErr error) *sdk.Error {
	if runErr != nil {
		return sdk.AsError(runErr)
	}
	e := &sdk.Error{Kind: sdk.KindUnreachable, Stderr: program.Tail(append([]byte(said), out.Stderr...))}
	stderr := strings.TrimSpace(string(out.Stderr))
	switch {
	case strings.Contains(said, "Salt request timed out"):
		e.Message, e.Hint = "the Salt master does not answer", "is salt-master running on this machine?"
	case out.ExitCode == usageCode:
		e.Kind, e.Message = sdk.KindInternal, "salt refused its arguments: "+lastLine(stderr)
		e.Hint = "salt is to be 2018.3 or later; see the setting command"
	case strings.Contains(stderr, "Unable to") || strings.Contains(stderr, "Permission denied") || strings.Contains(stderr, "ensure that you are"):
		e.Kind, e.Message = sdk.KindPermission, "salt may not be used: "+lastLine(stderr)
		e.Hint = "run it as root or as the master's user, by the setting command: sudo, -n, -u, salt, salt"
	default:
		e.Message = fmt.Sprintf("salt ended with exit code %d and told nothing of the host", out.ExitCode)
	}
	return e
}

// usageCode is salt's exit code for arguments that it does not know.
const usageCode = 64

func lastLine(text string) string {
	line := text[strings.LastIndexByte(text, '\n')+1:]
	return sdk.Raw(line[:min(len(line), 300)]).Display()
}
