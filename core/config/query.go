package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/transferpy/transferpy/core/agent/control"
	"github.com/transferpy/transferpy/core/transfer"
	"github.com/transferpy/transferpy/sdk"
)

// Query is what may stand in place of targets: hosts that the executor finds,
// with one path for all.
type Query struct {
	Text string // for the executor; empty: the targets are named
	Path sdk.Raw
	Yes  int // how many targets are agreed to beforehand; 0: nobody has
}

// maxQuery bounds a query, in bytes.
const maxQuery = 64 << 10

// query reads --targets and what belongs to it.
func (v *values) query() Query {
	q := Query{Path: sdk.Raw(v.get("target_path").text)}
	q.Text = parsed(v, "targets", func(text string) (string, error) {
		if text == "" || len(text) > maxQuery || strings.IndexByte(text, 0) >= 0 {
			return "", fmt.Errorf("a query of 1 to %d bytes is needed", maxQuery)
		}
		return text, nil
	})
	q.Yes = parsed(v, "yes", func(text string) (int, error) { return parseInt(text, 1, control.MaxMembers-1) })
	switch given := v.byFlag("targets"); {
	case given && !v.byFlag("target_path"):
		e := configError("--targets needs --target-path")
		e.Hint = "name the directory on the targets"
		v.errs = append(v.errs, e)
	case given:
		if err := checkPath(q.Path); err != "" {
			v.errs = append(v.errs, configError("--target-path %s", err))
		}
	case v.byFlag("target_path"):
		v.errs = append(v.errs, configError("--target-path has no meaning without --targets"))
	case v.byFlag("yes"):
		v.errs = append(v.errs, configError("--yes has no meaning without --targets"))
	}
	return q
}

// checkPath says what is wrong with a path; empty: nothing.
func checkPath(path sdk.Raw) string {
	switch {
	case path == "":
		return "is empty"
	case len(path) > maxPath:
		return fmt.Sprintf("is longer than %d bytes", maxPath)
	case strings.IndexByte(string(path), 0) >= 0:
		return "has a NUL byte"
	}
	return ""
}

// check holds the number of operands against the query.
func (q Query) check(operands int) error {
	switch {
	case q.Text == "" && operands < 2:
		e := configError("a transfer needs a SOURCE and at least one TARGET, each HOST:PATH")
		e.Hint = "transferpy --help lists everything"
		return e
	case q.Text != "" && operands != 1:
		e := configError("with --targets the SOURCE is the only operand, but there are %d", operands)
		e.Hint = "name the targets, or put all of them into the query"
		return e
	}
	return nil
}

// Found takes the hosts that the executor found by the query, and so completes
// the Request: they are the targets, sorted. A host that comes twice is taken
// once. The source's own host is left out, which the result says: who asks for
// all replicas means the others.
func (s *Settings) Found(hosts []string) (leftOut bool, err error) {
	source := s.Request.Source
	ends := []transfer.Endpoint{source}
	sorted := slices.Clone(hosts)
	slices.Sort(sorted)
	for _, name := range slices.Compact(sorted) {
		host, err := ParseHost(name)
		if err != nil {
			e := *sdk.AsError(err)
			e.Message = fmt.Sprintf("executor %s found what cannot be a target: %s", s.Executor, e.Message)
			e.Kind = sdk.KindInternal
			return false, &e
		}
		if withoutUser(host) == withoutUser(source.Host) {
			leftOut = true
			continue
		}
		ends = append(ends, transfer.Endpoint{Executor: s.ExecutorFor(host), Host: host, Path: s.Query.Path})
	}
	if len(ends) == 1 {
		return leftOut, &sdk.Error{Kind: sdk.KindNotFound,
			Message: fmt.Sprintf("executor %s finds no host%s for --targets %s", s.Executor, map[bool]string{true: " but the source"}[leftOut], show(clip(s.Query.Text))),
			Hint:    "see whether the query is written as the executor's backend wants it"}
	}
	return leftOut, s.complete(ends)
}

// withoutUser is the host of USER@HOST.
func withoutUser(host string) string { return host[strings.LastIndexByte(host, '@')+1:] }
