package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

const (
	// maxEvent is the master's max_event_size.
	maxEvent = 1 << 20
	// silenceTime plays salt's 15 s of waiting for a minion that is down.
	silenceTime = 3 * time.Second
)

// run runs a function on minions and prints each one's return as it comes, one
// JSON object a line.
func (w *world) run(c call) int {
	known, unknown := w.targets(c)
	if len(known) == 0 {
		replay("glob_nomatch")
	}
	var mu sync.Mutex
	code := 0
	tell := func(id string, value any, retcode int) {
		mu.Lock()
		defer mu.Unlock()
		if retcode != 0 {
			code = 1
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(map[string]any{id: value}); err != nil {
			panic(err)
		}
		os.Stdout.Write(b.Bytes())
	}
	var wg sync.WaitGroup
	for _, id := range known {
		wg.Go(func() {
			switch {
			case slices.Contains(w.Down, id):
				time.Sleep(silenceTime)
				tell(id, instead("down_only", "db3"), 1)
			case c.function != "cmd.run_all":
				tell(id, instead("bad_function", "db2"), 1)
			default:
				value, retcode := runAll(w.Minions[id], c.kwargs)
				tell(id, value, retcode)
			}
		})
	}
	wg.Wait()
	for _, id := range unknown { // an id without an accepted key, beside good ones
		tell(id, instead("down_only", "db3"), 1)
	}
	if code != 0 {
		fmt.Fprint(os.Stderr, captured("bad_function.stderr"))
	}
	return code
}

// result is what cmd.run_all returns.
type result struct {
	PID     int    `json:"pid"`
	Retcode int    `json:"retcode"`
	Stdout  string `json:"stdout"`
	Stderr  string `json:"stderr"`
}

// runAll runs a line of shell by reach and loses what salt loses.
func runAll(reach []string, kwargs map[string]string) (any, int) {
	argv := append(slices.Clone(reach), kwargs["cmd"])
	if len(reach) == 0 {
		shell := kwargs["shell"]
		if shell == "" {
			shell = "/bin/bash"
		}
		argv = []string{shell, "-c", kwargs["cmd"]}
	}
	c := exec.Command(argv[0], argv[1:]...)
	if in, ok := kwargs["stdin"]; ok {
		if _, err := base64.StdEncoding.DecodeString(in); err != nil {
			usage("only text was seen to go through stdin")
		}
		c.Stdin = strings.NewReader(in)
	}
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return fmt.Sprintf("ERROR: Unable to run command '%s', reason: %v", argv[0], err), 1
	}
	r := result{PID: c.ProcessState.Pid(), Retcode: c.ProcessState.ExitCode(), Stdout: text(stdout.Bytes()), Stderr: text(stderr.Bytes())}
	if s := c.ProcessState.Sys().(syscall.WaitStatus); s.Signaled() {
		r.Retcode = -int(s.Signal())
	}
	if len(r.Stdout)+len(r.Stderr) > maxEvent-300 {
		trimmed := instead("value_trimmed", "db2").(map[string]any)["stdout"].(string)
		for _, field := range []*string{&r.Stdout, &r.Stderr} {
			if len(*field) > maxEvent/2 {
				*field = trimmed
			}
		}
	}
	return r, r.Retcode
}

// text is output as salt returns it: without white space at its end, and with
// what is no UTF-8 replaced.
func text(b []byte) string {
	return strings.TrimRightFunc(strings.ToValidUTF8(string(b), "\uFFFD"), unicode.IsSpace)
}

// preview prints the accepted minions that a target matches.
func (w *world) preview(c call) int {
	known, _ := w.targets(c)
	if len(known) == 0 {
		fmt.Println("[]")
		fmt.Fprintln(os.Stderr, "ERROR: No return received")
		return 2
	}
	data, err := json.MarshalIndent(known, "", "    ")
	if err != nil {
		panic(err)
	}
	fmt.Println(string(data))
	return 0
}

// globbed are the ids that a glob matches.
func globbed(glob string, all []string) []string {
	var found []string
	for _, id := range all {
		if ok, err := path.Match(glob, id); err == nil && ok {
			found = append(found, id)
		}
	}
	return found
}

// compound knows TERM and TERM and not TERM, a term being L@ids or a glob.
func compound(expression string, all []string) []string {
	found := all
	negate := false
	for _, word := range strings.Fields(expression) {
		if word == "and" {
			continue
		}
		if word == "not" {
			negate = true
			continue
		}
		var matched []string
		if ids, ok := strings.CutPrefix(word, "L@"); ok {
			matched = strings.Split(ids, ",")
		} else {
			matched = globbed(word, all)
		}
		found = slices.DeleteFunc(slices.Clone(found), func(id string) bool { return slices.Contains(matched, id) == negate })
		negate = false
	}
	return found
}
