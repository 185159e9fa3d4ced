// Command fakesalt plays the salt command of a master for tests: it runs
// commands for real, on hosts that a file names, and answers as a real salt
// 3006 did when its outputs were captured (testdata): what it strips, trims
// and puts in place of results included. What it does not know it refuses, so
// that a test notices when the executor asks for something that nobody has
// seen salt do.
//
//	fakesalt HOSTS.json [salt's arguments]
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// world is what the file tells.
type world struct {
	// Minions are the accepted ids; the value is the command, up to a line of
	// shell, by which it runs something ("ssh", "db1"); empty: sh -c, here.
	Minions map[string][]string
	// Down are those of them that do not answer.
	Down []string
	// MasterDown has every call time out.
	MasterDown bool
	// Log, if set, gets a line for each run: the function and its minions.
	Log string
}

// call is what salt was asked.
type call struct {
	matcher  string // "", L or C
	target   string
	function string
	kwargs   map[string]string
	preview  bool
}

func main() {
	if len(os.Args) < 2 {
		usage("usage: fakesalt HOSTS.json [ARGUMENTS]")
	}
	var w world
	data, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err != nil {
		usage(err.Error())
	}
	args := os.Args[2:]
	if slices.Contains(args, "--args-stdin") {
		if len(args) != 1 {
			usage("options beside --args-stdin are reset by it")
		}
		args = lines(os.Stdin)
	}
	c := parse(args)
	w.log(c)
	switch {
	case w.MasterDown:
		time.Sleep(time.Second)
		replay("master_down")
	case c.preview:
		os.Exit(w.preview(c))
	default:
		os.Exit(w.run(c))
	}
}

// lines reads arguments, one a line; a line cannot hold a newline.
func lines(r io.Reader) []string {
	data, err := io.ReadAll(bufio.NewReader(r))
	if err != nil {
		usage(err.Error())
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// parse knows the options that the captures show.
func parse(args []string) call {
	c := call{kwargs: map[string]string{}}
	var words []string
	exact := map[string]bool{}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--out=json", a == "--out-indent=-1":
		case strings.HasPrefix(a, "--no-parse="):
			for _, name := range strings.Split(strings.TrimPrefix(a, "--no-parse="), ",") {
				exact[name] = true
			}
		case a == "--preview-target":
			c.preview = true
		case a == "-L", a == "-C":
			c.matcher = a[1:]
		case a == "-t":
			i++
		case strings.HasPrefix(a, "-"):
			usage("no such option: " + a)
		default:
			words = append(words, a)
		}
	}
	if len(words) == 0 || !c.preview && len(words) < 2 {
		usage("no target or no function")
	}
	c.target = words[0]
	if c.preview {
		return c
	}
	c.function = words[1]
	for _, w := range words[2:] {
		name, value, ok := strings.Cut(w, "=")
		if !ok || !exact[name] && name != "shell" {
			usage("parsed as YAML, which nobody wants: " + w[:min(len(w), 60)])
		}
		c.kwargs[name] = value
	}
	return c
}

// targets are the accepted minions that a call is for, and the ids of a list
// that are not accepted. A list takes no globs and is case-sensitive.
func (w *world) targets(c call) (known, unknown []string) {
	all := make([]string, 0, len(w.Minions))
	for id := range w.Minions {
		all = append(all, id)
	}
	slices.Sort(all)
	switch c.matcher {
	case "L":
		for _, id := range strings.FieldsFunc(c.target, func(r rune) bool { return r == ',' || r == ' ' }) {
			if _, ok := w.Minions[id]; ok {
				known = append(known, id)
			} else {
				unknown = append(unknown, id)
			}
		}
		slices.Sort(known)
		return slices.Compact(known), unknown
	case "C":
		return compound(c.target, all), nil
	}
	return globbed(c.target, all), nil
}

func (w *world) log(c call) {
	if w.Log == "" {
		return
	}
	f, err := os.OpenFile(w.Log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		usage(err.Error())
	}
	defer f.Close()
	fmt.Fprintln(f, c.function, c.target)
}

func usage(text string) {
	fmt.Fprint(os.Stderr, captured("usage_error.stderr"), text, "\n")
	os.Exit(64)
}
