package daemon

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/agent/durable"
	"github.com/transferpy/transferpy/core/agent/facts"
)

// An agent that has published all and ended leaves its last answer behind, since
// the one that went to the controller may have been lost, and nobody else could
// say any more that the copy is there. A status or the commit, asked again, is
// answered from it; stop and recover answer from it and remove it. What nobody
// asks for goes with the first prepare on this host after keepResult, or when
// there are more than maxResults.
const (
	keepResult = 7 * 24 * time.Hour
	maxResults = 256
	maxResult  = 64 << 10 // bytes of one
)

// result is what lies in such a file.
type result struct {
	V       int            `json:"v"`
	Machine string         `json:"machine"` // a home directory may be shared by several
	Answer  control.Answer `json:"answer"`
}

// resultName is the file's name; no id has a dot in it.
func resultName(transfer, agent string) string { return transfer + "." + agent }

// leaveResult puts an agent's last answer onto the disk.
func leaveResult(state *state, transfer string, answer control.Answer) error {
	data, err := encodeResult(answer)
	if err != nil {
		return err
	}
	dir := state.sub(resultsDir)
	if err := makePrivate(dir); err != nil {
		return err
	}
	path := filepath.Join(dir, resultName(transfer, answer.Agent))
	temp := filepath.Join(dir, newPrefix+resultName(transfer, answer.Agent))
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return durable.Dir(dir)
}

// encodeResult leaves out what is not needed to know how it ended, where it is
// too long otherwise.
func encodeResult(answer control.Answer) ([]byte, error) {
	status := *answer.Status
	status.Members = slices.Clone(status.Members)
	answer.Status = &status
	for i := range status.Members {
		status.Members[i].Times = nil
	}
	data, err := json.Marshal(result{control.Version, facts.MachineID(), answer})
	if err != nil || len(data) <= maxResult {
		return data, err
	}
	status.Undos = nil
	for i := range status.Members {
		status.Members[i].Warnings, status.Members[i].Paths, status.Members[i].Failed = nil, nil, nil
	}
	return json.Marshal(result{control.Version, facts.MachineID(), answer})
}

// addResults adds to the answers of a transfer's agents here the last ones of
// those that have gone without answering. An agent that has died on its way out
// is told by its own.
func addResults(state *state, transfer string, answers []control.Answer) []control.Answer {
	for _, name := range resultsOf(state, transfer) {
		r, err := readResult(filepath.Join(state.sub(resultsDir), name))
		if err != nil || resultName(transfer, r.Answer.Agent) != name || r.Machine != facts.MachineID() {
			continue
		}
		i := slices.IndexFunc(answers, func(a control.Answer) bool { return a.Agent == r.Answer.Agent })
		switch {
		case i < 0 && len(answers) < control.MaxAgents:
			answers = append(answers, r.Answer)
		case i >= 0 && answers[i].Status != nil && len(answers[i].Status.Members) == 0 && !answers[i].Gone:
			answers[i].Status.Members = r.Answer.Status.Members
		}
	}
	return answers
}

func readResult(path string) (*result, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return decodeResult(file)
}

func decodeResult(in io.Reader) (*result, error) {
	var r result
	if err := json.NewDecoder(io.LimitReader(in, 4*maxResult)).Decode(&r); err != nil {
		return nil, err
	}
	if r.V != control.Version || r.Answer.Status == nil {
		return nil, errors.New("it is of another version")
	}
	// A file that was tampered with must not keep the others from answering.
	reply := control.Reply{V: control.Version, Agents: []control.Answer{r.Answer}}
	if err := reply.Validate(); err != nil {
		return nil, err
	}
	return &r, nil
}

// resultsOf are the names of a transfer's files.
func resultsOf(state *state, transfer string) []string {
	entries, err := os.ReadDir(state.sub(resultsDir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if agent, ok := strings.CutPrefix(e.Name(), transfer+"."); ok && control.ValidID(agent) {
			names = append(names, e.Name())
		}
	}
	return names
}

// dropResults removes a transfer's files, and the directory with the last.
func dropResults(state *state, transfer string) {
	for _, name := range resultsOf(state, transfer) {
		os.Remove(filepath.Join(state.sub(resultsDir), name))
	}
	os.Remove(state.sub(resultsDir)) // fails while others are in it
}

// sweepResults removes those that nobody has asked for.
func (s *state) sweepResults(now time.Time) {
	entries, err := os.ReadDir(s.sub(resultsDir))
	if err != nil {
		return
	}
	type file struct {
		name string
		made time.Time
	}
	var files []file
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, file{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.made.Compare(a.made) })
	for i, f := range files {
		if i >= maxResults || now.Sub(f.made) > keepResult {
			os.Remove(filepath.Join(s.sub(resultsDir), f.name))
		}
	}
}
